"""`pointsman plan FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.cli.common import file_argument, prepared, show_findings, show_warnings
from pointsman.config import load
from pointsman.model import NodeStates
from pointsman.model.abilities import XDP
from pointsman.plan.findings import passed_by
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.nftables import compile_ruleset, direct_changes, render
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import described
from pointsman.reconcile.state import StateFile


@click.command()
@file_argument
@click.option(
    "--ruleset", is_flag=True, help="Print the nftables plane's whole table as nft text; needs no root."
)
@click.option(
    "--transaction",
    is_flag=True,
    help="Print the change: an nft transaction, or the XDP listeners.",
)
def plan(file: Path, *, ruleset: bool, transaction: bool) -> None:
    """Say what `apply FILE` would change; change nothing."""
    loaded = load(file)
    show_warnings(loaded)
    if ruleset:
        nodes = [node for service in loaded.gateway.services for node in service.nodes]
        labels = allocate(nodes, Labels(), now=0, rest=0)
        wanted = PlaneInputs(loaded.gateway, NodeStates(), labels)
        click.echo(render(compile_ruleset(wanted)) + direct_changes(None, wanted).text, nl=False)
        return
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            found = prepared(planes, state_file, loaded)
        proposal, choice = found.proposal, found.choice
        text = planes.of(choice.plane).transaction(proposal.tables, proposal.want)
    show_findings(found.findings)
    if transaction:
        click.echo(text, nl=False)
        return
    lines = described(proposal)
    click.echo(f"data plane: {choice}")
    if choice.plane == XDP and found.interfaces.names:
        click.echo(
            f"on {', '.join(found.interfaces.names)}; the services' packets pass by {passed_by(found.around)}"
        )
    for line in lines:
        click.echo(line)
    if text:
        click.echo(f"{choice.plane}: a change of {len(text.splitlines())} lines (--transaction shows it)")
    elif not lines:
        click.echo("nothing to change")
