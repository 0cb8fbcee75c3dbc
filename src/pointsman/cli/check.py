"""`pointsman check FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.cli.common import file_argument, findings_here, refuse_fatal, show_findings, show_warnings
from pointsman.config import load
from pointsman.kernel.nft import Nft


@click.command()
@file_argument
@click.option("--no-machine", is_flag=True, help="Look at the file only, not at this machine.")
def check(file: Path, *, no_machine: bool) -> None:
    """Find mistakes in FILE, and what on this machine stands in its way; change nothing."""
    loaded = load(file)
    show_warnings(loaded)
    if not no_machine:
        with Nft() as nft:
            findings = findings_here(loaded.gateway, nft)
        refuse_fatal(findings)
        show_findings(findings)
    nodes = sum(len(service.nodes) for service in loaded.gateway.services)
    services = len(loaded.gateway.services)
    click.echo(f"{file}: good; services: {services}, nodes: {nodes}")
