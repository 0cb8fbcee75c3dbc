"""`pointsman status`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pointsman.api.client import daemon_here
from pointsman.cli import status_of_daemon
from pointsman.cli.common import show_findings
from pointsman.dataplane.protocol import Count
from pointsman.dataplane.sides import Wanted
from pointsman.model import Endpoint, FilterMode, Service
from pointsman.model.abilities import XDP
from pointsman.plan.findings import find
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.ranges import in_ranges
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict
from pointsman.reconcile.apply import standing
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import look_here
from pointsman.reconcile.state import AppliedState, StateFile


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, as_json: bool) -> None:
    """Show services, nodes, states and counters, as the daemon says or without one as they are in the kernel."""
    daemon = daemon_here()
    if daemon is not None:
        found, orders = daemon.status(), daemon.orders()
        if as_json:
            click.echo(json.dumps(status_of_daemon.document(found, orders)))
        else:
            status_of_daemon.show(found, orders)
        return
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            applied, inputs = standing(planes, state_file)
        if inputs is None:
            _nothing(applied_before=applied.text is not None, as_json=as_json)
            return
        counts = planes.of(applied.dataplane).counts(inputs)
        wanted = Wanted(inputs, applied.dataplane)
        counts += [count for side in planes.sides for count in side.counts(wanted)]
        beside = {side.name: lines for side in planes.sides if (lines := side.lines(wanted))}
        around = look_here(inputs.gateway, planes.nft)
        findings = find(inputs.gateway, around, applied.dataplane)
        attached = planes.xdp.attached() if applied.dataplane == XDP else []
    if as_json:
        document = _document(applied, inputs, counts)
        if applied.dataplane == XDP:
            document["interfaces"] = [
                {"name": port.name, "mode": port.mode, "reason": port.why} for port in attached
            ]
        document["beside"] = beside
        document["findings"] = [finding.text for finding in findings]
        click.echo(json.dumps(document))
        return
    show_findings(findings)
    _show(applied, inputs, counts)
    for port in attached:
        click.echo(f"{port.name}: {port.mode}{f' ({port.why})' if port.why else ''}")
    for line in (line for lines in beside.values() for line in lines):
        click.echo(line)


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


def _document(applied: AppliedState, inputs: PlaneInputs, counts: list[Count]) -> dict[str, Any]:
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
        "dataplane": applied.dataplane,
        "dataplane_reason": _plane(applied),
        "leaving": [{"service": item.service, "node": item.node.name} for item in inputs.leaving],
        "counters": counters("", ""),
        "services": [one(service) for service in inputs.gateway.services],
        "guards": [
            {
                "name": guard.name,
                "interfaces": list(guard.interfaces),
                "ports": [str(ports) for ports in guard.ports],
                "mode": guard.filter.mode,
                "counters": counters("", guard.name),
            }
            for guard in inputs.gateway.guards
        ],
    }


def _plane(applied: AppliedState) -> str:
    return f"{applied.dataplane} ({applied.dataplane_reason})"


def _show(applied: AppliedState, inputs: PlaneInputs, counts: list[Count]) -> None:
    owners = _by_owner(counts)
    console = Console(width=None if Console().is_terminal else 120, highlight=False, markup=False)
    console.print(f"gateway {inputs.gateway.name}, data plane {_plane(applied)}")
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
    if inputs.gateway.services:
        console.print(table)
    for service in inputs.gateway.services:
        quiet: list[Endpoint] = []
        for listener in service.listeners:
            found = owners.get((service.name, str(listener.endpoint)), {})
            words = [f"{verdict} {count.packets}" for verdict, count in found.items() if count.packets]
            if words:
                console.print(f"{service.name} on {listener.endpoint}: {', '.join(words)}")
            else:
                quiet.append(listener.endpoint)
        for text in in_ranges(quiet):
            console.print(f"{service.name} on {text}: nothing dropped")
    for guard in inputs.gateway.guards:
        found = owners.get(("", guard.name), {})
        words = [f"{verdict} {count.packets}" for verdict, count in found.items() if count.packets]
        mode = "" if guard.filter.mode is FilterMode.ENFORCE else f" ({guard.filter.mode})"
        console.print(f"guard {guard.name}, {guard.place}{mode}: {', '.join(words) or 'nothing dropped'}")
    gateway = [
        f"{verdict} {count.packets}" for verdict, count in owners.get(("", ""), {}).items() if count.packets
    ]
    if gateway:
        console.print(f"gateway: {', '.join(gateway)}")
