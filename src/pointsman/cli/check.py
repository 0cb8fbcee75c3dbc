"""`pointsman check FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.cli.common import (
    file_argument,
    refuse_choice,
    refuse_fatal,
    show_findings,
    show_warnings,
)
from pointsman.config import load
from pointsman.plan.findings import find
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import choose_plane, look_here


@click.command()
@file_argument
@click.option("--no-machine", is_flag=True, help="Look at the file only, not at this machine.")
def check(file: Path, *, no_machine: bool) -> None:
    """Find mistakes in FILE, and what on this machine stands in its way; change nothing."""
    loaded = load(file)
    show_warnings(loaded)
    if not no_machine:
        with Planes() as planes:
            around = look_here(loaded.gateway, planes.nft)
            choice, _ = choose_plane(planes, loaded.gateway, around, acting=False)
        findings = find(loaded.gateway, around, choice.plane)
        refuse_fatal(findings)
        show_findings(findings)
        refuse_choice(choice)
    nodes = sum(len(service.nodes) for service in loaded.gateway.services)
    services = len(loaded.gateway.services)
    guards = f", guards: {len(loaded.gateway.guards)}" if loaded.gateway.guards else ""
    click.echo(f"{file}: good; services: {services}, nodes: {nodes}{guards}")
