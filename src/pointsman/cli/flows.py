"""`pointsman flows`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable

import click
from rich.console import Console
from rich.table import Table

from pointsman.api.client import daemon_here
from pointsman.api.documents import FlowRow
from pointsman.cli.asking import complete_node, service_and_node
from pointsman.daemon.views import flow_row
from pointsman.dataplane.protocol import Clients
from pointsman.kernel.errors import KernelError
from pointsman.plan.inputs import PlaneInputs
from pointsman.reconcile.apply import standing
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.state import AppliedState, StateFile


@click.command()
@click.argument("which", metavar="[SERVICE[/NODE]]", required=False, shell_complete=complete_node)
@click.option("--list", "as_list", is_flag=True, help="Show the clients of a node, SERVICE/NODE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def flows(which: str | None, *, as_list: bool, as_json: bool) -> None:
    """Show how many flows are remembered by service and node, from the daemon, or without one from the kernel."""
    if as_list:
        _list(which or "", as_json=as_json)
        return
    daemon = daemon_here()
    if daemon is not None:
        known = [(one.name, node.name) for one in daemon.status().services for node in one.nodes]
        rows = daemon.flows()
    else:
        known, rows = _from_kernel()
    if which is not None:
        rows = _about(rows, known, which)
    if as_json:
        click.echo(json.dumps([row.model_dump() for row in rows]))
    else:
        _show(rows)


def _about(rows: Iterable[FlowRow], known: Iterable[tuple[str, str]], which: str) -> list[FlowRow]:
    service, _, node = which.partition("/")
    found = [row for row in rows if service in row.services and node in ("", row.node)]
    if not found and not any(service == one and node in ("", other) for one, other in known):
        raise click.UsageError(f"no service or node {which!r} is applied")
    return found


def _from_kernel() -> tuple[list[tuple[str, str]], list[FlowRow]]:
    with Planes() as planes:
        applied, inputs = _standing(planes)
        counts = planes.of(applied.dataplane).flows(inputs)
    known = [(service.name, node.name) for service in inputs.gateway.services for node in service.nodes]
    return known, [flow_row(count) for count in counts]


def _standing(planes: Planes) -> tuple[AppliedState, PlaneInputs]:
    state_file = StateFile()
    with state_file.locked():
        applied, inputs = standing(planes, state_file)
    if inputs is None:
        raise KernelError("nothing is applied")
    return applied, inputs


def _list(which: str, *, as_json: bool) -> None:
    """Always from the kernel: clients' addresses are nothing for everybody who may ask a daemon."""
    service, node = service_and_node(which)
    with Planes() as planes:
        applied, inputs = _standing(planes)
        own = inputs.gateway.service(service)
        leaving = any((each.service, each.node.name) == (service, node) for each in inputs.leaving)
        if own is None or (own.node(node) is None and not leaving):
            raise click.UsageError(f"no node {which!r} is applied")
        found = planes.of(applied.dataplane).clients(inputs, service, node)
    if as_json:
        click.echo(json.dumps(_clients_document(found)))
        return
    table = _table("client", "listener")
    table.add_column("seconds left", justify="right")
    for one in sorted(found.known):
        table.add_row(str(one.client), str(one.listener), f"{one.seconds:.0f}")
    if found.known:
        _console().print(table)
    if found.hashed:
        click.echo(f"{found.hashed} flows whose clients the data plane knows by their hashes only")
    elif not found.known:
        click.echo("no flows are remembered")


def _clients_document(found: Clients) -> dict[str, object]:
    return {
        "clients": [
            {
                "listener": str(one.listener),
                "address": str(one.client.address),
                "port": one.client.port,
                "seconds": one.seconds,
            }
            for one in sorted(found.known)
        ],
        "hashed": found.hashed,
    }


def _show(rows: list[FlowRow]) -> None:
    if not rows:
        click.echo("no flows are remembered")
        return
    kinds = list(dict.fromkeys(row.kind for row in rows))
    by_node: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        by_node[_whose(row)][row.kind] = row.flows
    table = _table("service/node")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for whose, counts in by_node.items():
        table.add_row(whose, *(str(counts.get(kind, 0)) for kind in kinds))
    _console().print(table)


def _whose(row: FlowRow) -> str:
    if not row.node:
        return "(nodes that are gone)"
    return f"{'+'.join(row.services)}/{row.node}{' (leaving)' if row.leaving else ''}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 120, highlight=False)
