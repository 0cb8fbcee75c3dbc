"""`pointsman apply FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.cli.common import (
    dataplane_reason,
    described,
    file_argument,
    findings_here,
    refuse_fatal,
    show_findings,
    show_warnings,
)
from pointsman.config import load
from pointsman.dataplane.nftables import NftablesPlane
from pointsman.kernel.nft import Nft
from pointsman.reconcile.apply import carry_out, propose
from pointsman.reconcile.state import StateFile


@click.command()
@file_argument
def apply(file: Path) -> None:
    """Make this machine the gateway that FILE describes, in one step; only what differs is changed."""
    loaded = load(file)
    show_warnings(loaded)
    with Nft() as nft:
        plane, state_file = NftablesPlane(nft), StateFile()
        with state_file.locked():
            findings = findings_here(loaded.gateway, nft)
            refuse_fatal(findings)
            proposal = propose(plane, state_file, loaded)
            carry_out(plane, state_file, proposal)
    show_findings(findings)
    lines = described(proposal)
    for line in lines or ["nothing to change"]:
        click.echo(line)
    click.echo(f"applied; data plane: {dataplane_reason(loaded.gateway.dataplane)}")
