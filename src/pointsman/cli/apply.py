"""`pointsman apply FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.api.client import daemon_here
from pointsman.api.documents import ApplyRequest
from pointsman.cli.asking import Duration, show_applied, the_daemon
from pointsman.cli.common import file_argument, prepared, show_findings, show_warnings
from pointsman.config import Loaded, load
from pointsman.daemon.only_one import refuse_beside_daemon
from pointsman.reconcile.apply import carry_out
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import described
from pointsman.reconcile.state import StateFile


@click.command()
@file_argument
@click.option(
    "--confirm",
    "seconds",
    type=Duration(most="1d"),
    metavar="60s",
    help="Go back to the configuration before unless `pointsman confirm` comes in time (with the daemon).",
)
def apply(file: Path, *, seconds: float | None) -> None:
    """Make this machine the gateway that FILE describes, in one step; only what differs is changed.

    Where a daemon serves, it is the daemon that does it, and goes on with what FILE says now.
    """
    loaded = load(file)
    daemon = the_daemon("--confirm") if seconds is not None else daemon_here()
    if daemon is None:
        _apply(loaded)
        return
    asked = ApplyRequest(text=loaded.text, filename=str(file.absolute()), confirm=seconds)
    show_applied(daemon.apply(asked))
    if seconds is not None:
        click.echo(f"on trial for {seconds:.0f} s; `pointsman confirm` keeps it")


def _apply(loaded: Loaded) -> None:
    show_warnings(loaded)
    refuse_beside_daemon()
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            found = prepared(planes, state_file, loaded)
            carry_out(planes, state_file, found.proposal)
    show_findings(found.findings)
    lines = described(found.proposal)
    for line in lines or ["nothing to change"]:
        click.echo(line)
    click.echo(f"applied; data plane: {found.choice}")
