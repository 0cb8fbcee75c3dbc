"""`pointsman counters`."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from pointsman.api.client import daemon_here
from pointsman.api.documents import CounterRow
from pointsman.dataplane.protocol import Count
from pointsman.dataplane.sides import Wanted
from pointsman.kernel.errors import KernelError
from pointsman.model import Gateway
from pointsman.reconcile.apply import standing
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.state import StateFile


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "also_zero", is_flag=True, help="Also those that counted nothing.")
def counters(*, as_json: bool, also_zero: bool) -> None:
    """Show every counter with its owner, from the daemon, or without one from the kernel."""
    daemon = daemon_here()
    rows = _from_kernel() if daemon is None else daemon.counters()
    if as_json:
        click.echo(json.dumps([row.model_dump() for row in rows]))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("of", "verdict"):
        table.add_column(column)
    for column in ("packets", "bytes"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.packets or also_zero:
            table.add_row(owner(row), row.verdict, str(row.packets), str(row.bytes))
    Console(width=None if Console().is_terminal else 120, highlight=False, markup=False).print(table)


def owner(row: CounterRow) -> str:
    """Whose counter it is, in a word or two."""
    if row.node:
        return f"{row.service}/{row.node}"
    if row.listener:
        return f"{row.service} on {row.listener}"
    return f"guard {row.guard}" if row.guard else "gateway"


def _from_kernel() -> list[CounterRow]:
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            applied, inputs = standing(planes, state_file)
        if inputs is None:
            raise KernelError("nothing is applied")
        counts = planes.of(applied.dataplane).counts(inputs)
        wanted = Wanted(inputs, applied.dataplane)
        counts += [count for side in planes.sides for count in side.counts(wanted)]
    return [_row(count, inputs.gateway) for count in counts]


def _row(count: Count, gateway: Gateway) -> CounterRow:
    service = gateway.service(count.service)
    is_listener = service is not None and any(str(one.endpoint) == count.subject for one in service.listeners)
    return CounterRow(
        service=count.service,
        node="" if is_listener or not count.service else count.subject,
        listener=count.subject if is_listener else "",
        guard="" if count.service else count.subject,
        verdict=count.verdict,
        packets=count.packets,
        bytes=count.bytes,
    )
