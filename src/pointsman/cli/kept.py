"""`pointsman reload`, `confirm`, `history` and `restore`: the configurations that the daemon keeps."""

from __future__ import annotations

import json
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from pointsman.cli.asking import printable, show_applied, the_daemon


@click.command()
def reload() -> None:
    """Have the daemon read its file again and put it in force."""
    show_applied(the_daemon("reload").reload())


@click.command()
def confirm() -> None:
    """Keep the configuration that would roll back otherwise."""
    the_daemon("confirm").confirm()
    click.echo("confirmed")


@click.command()
@click.argument("number", type=click.IntRange(min=1))
def restore(*, number: int) -> None:
    """Put an earlier configuration in force, by its number in the history."""
    show_applied(the_daemon("restore").restore(number))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(*, as_json: bool) -> None:
    """List the configurations that were in force."""
    kept = the_daemon("history").history()
    if as_json:
        click.echo(json.dumps([one.model_dump() for one in kept]))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("number", "since", "file", "by", "bytes", "digest"):
        table.add_column(column)
    for one in kept:
        at = datetime.fromtimestamp(one.at).astimezone().isoformat(sep=" ", timespec="seconds")
        mark = " (in force)" if one.current else ""
        table.add_row(
            f"{one.number}{mark}",
            at,
            printable(one.filename),
            printable(one.who),
            str(one.size),
            one.digest[:12],
        )
    Console(width=None if Console().is_terminal else 160, highlight=False, markup=False).print(table)
