"""`pointsman plan FILE`."""

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
from pointsman.model import NodeStates
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.nftables import compile_ruleset, render
from pointsman.reconcile.apply import propose
from pointsman.reconcile.state import StateFile


@click.command()
@file_argument
@click.option("--ruleset", is_flag=True, help="Print the whole table as nft text; needs no root.")
@click.option("--transaction", is_flag=True, help="Print the change as one nft transaction.")
def plan(file: Path, *, ruleset: bool, transaction: bool) -> None:
    """Say what `apply FILE` would change; change nothing."""
    loaded = load(file)
    show_warnings(loaded)
    if ruleset:
        nodes = [node for service in loaded.gateway.services for node in service.nodes]
        labels = allocate(nodes, Labels(), now=0, rest=0)
        click.echo(render(compile_ruleset(PlaneInputs(loaded.gateway, NodeStates(), labels))), nl=False)
        return
    with Nft() as nft:
        plane, state_file = NftablesPlane(nft), StateFile()
        findings = findings_here(loaded.gateway, nft)
        refuse_fatal(findings)
        with state_file.locked():
            proposal = propose(plane, state_file, loaded)
        text = plane.transaction(proposal.have, proposal.want)
    show_findings(findings)
    if transaction:
        click.echo(text, nl=False)
        return
    lines = described(proposal)
    click.echo(f"data plane: {dataplane_reason(loaded.gateway.dataplane)}")
    for line in lines:
        click.echo(line)
    if text:
        click.echo(f"nftables: one transaction of {len(text.splitlines())} lines (--transaction shows it)")
    elif not lines:
        click.echo("nothing to change")
