"""`pointsman status` where a daemon answers: what it says, as JSON or on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pointsman.api.documents import CheckResult, Counters, Node, Order, Status
from pointsman.cli.asking import printable, spoken
from pointsman.plan.verdicts import MEANINGS, Scope

SHOWN = tuple(verdict for verdict, meaning in MEANINGS.items() if meaning.scope is Scope.NODE)


def document(status: Status, orders: list[Order]) -> dict[str, Any]:
    """The keys that status has without a daemon, and what only a daemon knows."""
    found = status.model_dump(mode="json")
    found["dataplane_reason"] = _plane(status)
    found["applied_at"] = found.pop("applied")
    return {
        "applied": True,
        "daemon": True,
        **found,
        "orders": [one.model_dump(mode="json") for one in orders],
    }


def show(status: Status, orders: list[Order]) -> None:
    """The same for people; warnings go to stderr."""
    for finding in status.findings:
        click.echo(f"warning: {printable(finding)}", err=True)
    if status.stale:
        click.echo(f"warning: not the file's configuration: {printable(status.stale)}", err=True)
    console = Console(width=None if Console().is_terminal else 160, highlight=False, markup=False)
    running = spoken(max(0.0, time.time() - status.started))
    console.print(
        f"gateway {status.gateway}, data plane {_plane(status)}; daemon {status.version} for {running}, "
        f"{status.repairs} repairs",
        soft_wrap=True,
    )
    if status.pending is not None:
        left = spoken(max(0.0, status.pending.until - time.time()))
        console.print(f"rolls back in {left} unless confirmed: pointsman confirm")
    if status.services:
        console.print(_nodes(status))
    for line in _lines(status, orders):
        console.print(printable(line), soft_wrap=True)


def _plane(status: Status) -> str:
    return f"{status.dataplane} ({status.dataplane_reason})"


def _nodes(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("service/node", "id", "state", "weight"):
        table.add_column(column)
    for verdict in (*SHOWN, "packets/s"):
        table.add_column(verdict, justify="right")
    for column in ("checks", "why"):
        table.add_column(column, overflow="fold")
    for service in status.services:
        for node in service.nodes:
            table.add_row(
                f"{service.name}/{node.name}",
                "" if node.id is None else str(node.id),
                node.state,
                str(node.weight) if node.share == 100 else f"{node.weight} ({node.share}%)",
                *(
                    str(node.counters[verdict].packets) if verdict in node.counters else ""
                    for verdict in SHOWN
                ),
                f"{rate(node):.1f}" if node.rates else "",
                checks(node),
                printable(node.why),
            )
    return table


def rate(node: Node) -> float:
    """Packets a second that went to the node: answers are counted apart."""
    return sum(value for verdict, value in node.rates.items() if verdict in ("cid", "flow", "balanced"))


def checks(node: Node) -> str:
    """Each check and its verdict in a few words."""
    return printable(", ".join(_check(one) for one in node.checks))


def _check(one: CheckResult) -> str:
    word = {True: "good", False: "failed", None: "?"}[one.healthy]
    flaps = f", {one.changes} changes" if one.changes > 2 else ""
    untried = "" if one.tried else f" ({one.said})"
    return f"{one.kind} {word}{untried}{flaps}"


def _lines(status: Status, orders: list[Order]) -> Iterable[str]:
    for service in status.services:
        if service.disabled or service.state != "up":
            yield f"{service.name}: {'disabled' if service.disabled else service.state}"
        for listener in service.listeners:
            yield f"{service.name} on {listener.address}: {_words(listener.counters) or 'nothing dropped'}"
    for guard in status.guards:
        mode = "" if guard.mode == "enforce" else f" ({guard.mode})"
        place = f"{', '.join(guard.ports)} on {', '.join(guard.interfaces)}"
        yield f"guard {guard.name}, {place}{mode}: {_words(guard.counters) or 'nothing dropped'}"
    if words := _words(status.counters):
        yield f"gateway: {words}"
    for order in orders:
        yield line_of(order)
    for service in status.services:
        for node in service.nodes:
            if node.sign:
                yield f"{service.name}/{node.name}: {node.sign}"
            for one in node.checks:
                if one.said and not (one.healthy and one.tried):
                    yield f"{service.name}/{node.name}: {one.kind} {one.target}: {one.said}"
    for port in status.interfaces:
        yield f"{port.name}: {port.mode}{f' ({port.reason})' if port.reason else ''}"
    for lines in status.beside.values():
        yield from lines


def line_of(order: Order) -> str:
    """An order that holds, with who gave it, when and why."""
    what = f"{order.service}/{order.node}" if order.node else order.service
    since = spoken(max(0.0, time.time() - order.since))
    until = "" if order.until is None else f", for another {spoken(max(0.0, order.until - time.time()))}"
    reason = f": {order.reason}" if order.reason else ""
    return f"order: {order.verb} {what}, by {order.who} {since} ago{until}{reason}"


def _words(counters: Counters) -> str:
    return ", ".join(f"{verdict} {count.packets}" for verdict, count in counters.items() if count.packets)
