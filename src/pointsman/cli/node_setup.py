"""`pointsman node-setup FILE SERVICE/NODE`: on the node's machine, not on the gateway."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from pointsman.cli.common import file_argument
from pointsman.config import load
from pointsman.model import Gateway
from pointsman.plan.node_files import FORMATS, Format, render
from pointsman.plan.node_setup import Wanted, endpoints, wanted_of
from pointsman.reconcile import node_side


@click.command("node-setup")
@file_argument
@click.argument("which", metavar="SERVICE/NODE")
@click.option(
    "--check", "task", flag_value="check", help="Say in a line each what is missing; exit status 1 then."
)
@click.option("--apply", "task", flag_value="apply", help="Do what is missing; it does not outlive a reboot.")
@click.option("--remove", "task", flag_value="remove", help="Take back what --apply did.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Print files that do the same at every boot, for this way of configuring the network.",
)
def node_setup(file: Path, which: str, task: str | None, form: Format | None) -> None:
    """Make this machine the node SERVICE/NODE of FILE, of a service with forward = "dsr" or "tunnel".

    Without options, say what such a node needs and what of it is missing here.
    """
    if task is not None and form is not None:
        raise click.UsageError(f"--format prints; --{task} is something else")
    wanted = _wanted(load(file).gateway, which)
    if form is not None:
        command = (*_program(), "node-setup", "--apply", str(file.absolute()), which)
        try:
            click.echo(render(wanted, node_side.read_facts(wanted), form, command), nl=False)
        except ValueError as problem:
            raise click.UsageError(str(problem)) from None
    elif task == "remove":
        _say(which, node_side.remove(which), "nothing was done for it here")
    elif task == "apply":
        _say(which, [f"done: {line}" for line in node_side.apply(which, wanted)], "nothing is missing")
    else:
        lines = node_side.look(wanted).lines
        if task == "check" and not lines:
            click.echo(f"{which}: nothing is missing")
        elif task == "check":
            for line in lines:
                click.echo(f"{which}: {line}", err=True)
            raise click.exceptions.Exit(1)
        else:
            _describe(load(file).gateway, which, lines)


def _program() -> tuple[str, ...]:
    """How this very program is started, wherever it is installed."""
    path = Path(sys.argv[0])
    if path.suffix == ".py":
        return sys.executable, "-m", "pointsman.cli.main"
    return (str(Path(shutil.which(path) or path).absolute()),)


def _wanted(gateway: Gateway, which: str) -> Wanted:
    found = node_side.node_of({service.name: service for service in gateway.services}, which)
    if found is None:
        known = ", ".join(
            f"{service.name}/{node.name}" for service in gateway.services for node in service.nodes
        )
        raise click.UsageError(f"no node {which!r}; one of {known}")
    wanted = wanted_of(*found)
    if wanted is None:
        raise click.UsageError(
            f'service {found[0].name} has forward = "{found[0].forward}": its nodes need nothing but a route back '
            'through the gateway; node-setup is for "dsr" and "tunnel"'
        )
    return wanted


def _say(which: str, lines: list[str], otherwise: str) -> None:
    for line in lines or [otherwise]:
        click.echo(f"{which}: {line}")


def _describe(gateway: Gateway, which: str, lines: list[str]) -> None:
    found = node_side.node_of({service.name: service for service in gateway.services}, which)
    if found is not None:
        listening = ", ".join(map(str, endpoints(*found)))
        click.echo(f"{which}: its server listens on {listening} ({found[0].protocol}), or on every address")
    _say(which, [f"missing: {line}" for line in lines], "nothing is missing")
