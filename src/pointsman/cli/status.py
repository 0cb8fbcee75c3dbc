"""`pointsman status`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pointsman.cli.common import dataplane_reason, findings_here, show_findings
from pointsman.dataplane.nftables import NftablesPlane
from pointsman.dataplane.protocol import Count
from pointsman.kernel.nft import Nft
from pointsman.model import Service
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict
from pointsman.reconcile.apply import standing
from pointsman.reconcile.state import StateFile


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, as_json: bool) -> None:
    """Show services, nodes, states and counters as they are in the kernel."""
    with Nft() as nft:
        plane, state_file = NftablesPlane(nft), StateFile()
        with state_file.locked():
            applied, inputs = standing(plane, state_file)
        if inputs is None:
            _nothing(applied_before=applied.text is not None, as_json=as_json)
            return
        counts = plane.counts(inputs)
        findings = findings_here(inputs.gateway, nft)
    if as_json:
        document = _document(inputs, counts)
        document["findings"] = [finding.text for finding in findings]
        click.echo(json.dumps(document))
        return
    show_findings(findings)
    _show(inputs, counts)


def _nothing(*, applied_before: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"applied": False, "lost": applied_before}))
    elif applied_before:
        click.echo(
            "the applied table is gone, or made by another version or by others; `pointsman apply FILE` makes it anew"
        )
    else:
        click.echo("nothing is applied")
    raise click.exceptions.Exit(1)


def _by_owner(counts: list[Count]) -> dict[tuple[str, str], dict[Verdict, Count]]:
    owners: dict[tuple[str, str], dict[Verdict, Count]] = defaultdict(dict)
    for count in counts:
        owners[count.service, count.subject][count.verdict] = count
    return owners


def _document(inputs: PlaneInputs, counts: list[Count]) -> dict[str, Any]:
    owners = _by_owner(counts)

    def counters(service: str, subject: str) -> dict[str, Any]:
        found = owners.get((service, subject), {})
        return {verdict: {"packets": count.packets, "bytes": count.bytes} for verdict, count in found.items()}

    def one(service: Service) -> dict[str, Any]:
        return {
            "name": service.name,
            "protocol": service.protocol,
            "listeners": [
                {
                    "address": str(listener.endpoint),
                    "counters": counters(service.name, str(listener.endpoint)),
                }
                for listener in service.listeners
            ],
            "nodes": [
                {
                    "name": node.name,
                    "id": node.id,
                    "state": inputs.states.of(service.name, node.name),
                    "weight": node.weight,
                    "addresses": [str(own.address) for own in node.addresses],
                    "counters": counters(service.name, node.name),
                }
                for node in service.nodes
            ],
        }

    return {
        "applied": True,
        "gateway": inputs.gateway.name,
        "dataplane": "nftables",
        "dataplane_reason": dataplane_reason(inputs.gateway.dataplane),
        "leaving": [{"service": item.service, "node": item.node.name} for item in inputs.leaving],
        "counters": counters("", ""),
        "services": [one(service) for service in inputs.gateway.services],
    }


def _show(inputs: PlaneInputs, counts: list[Count]) -> None:
    owners = _by_owner(counts)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(f"gateway {inputs.gateway.name}, data plane {dataplane_reason(inputs.gateway.dataplane)}")
    shown = [verdict for verdict, meaning in MEANINGS.items() if meaning.scope is Scope.NODE]
    table = Table(box=None, pad_edge=False)
    for column in ("service/node", "id", "state", "weight"):
        table.add_column(column)
    for verdict in shown:
        table.add_column(verdict, justify="right")
    for service in inputs.gateway.services:
        for node in service.nodes:
            found = owners.get((service.name, node.name), {})
            table.add_row(
                f"{service.name}/{node.name}",
                "" if node.id is None else str(node.id),
                inputs.states.of(service.name, node.name),
                str(node.weight),
                *(str(found[verdict].packets) if verdict in found else "" for verdict in shown),
            )
    console.print(table)
    for service in inputs.gateway.services:
        for listener in service.listeners:
            found = owners.get((service.name, str(listener.endpoint)), {})
            words = [f"{verdict} {count.packets}" for verdict, count in found.items() if count.packets]
            console.print(f"{service.name} on {listener.endpoint}: {', '.join(words) or 'nothing dropped'}")
    gateway = [
        f"{verdict} {count.packets}" for verdict, count in owners.get(("", ""), {}).items() if count.packets
    ]
    if gateway:
        console.print(f"gateway: {', '.join(gateway)}")
