"""What `pointsman top` shows and does at a key: a view, and the order that a key confirms. It asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pointsman.api.documents import Node, Status, Verb
from pointsman.cli.asking import printable, spoken
from pointsman.cli.status_of_daemon import checks, rate

HELP = "n s t c f r sort  j k select  d drain  e enable  x disable  q end"


class Sort(StrEnum):
    NAME = "name"
    STATE = "state"
    TOTAL = "packets/s"
    CID = "cid/s"
    FLOW = "flow/s"
    REPLY = "reply/s"


_SORT_KEYS = {
    "n": Sort.NAME,
    "s": Sort.STATE,
    "t": Sort.TOTAL,
    "c": Sort.CID,
    "f": Sort.FLOW,
    "r": Sort.REPLY,
}
_ORDER_KEYS = {"d": Verb.DRAIN, "e": Verb.ENABLE, "x": Verb.DISABLE}
_DOWN, _UP = ("j", "\x1b[B"), ("k", "\x1b[A")
_COLOURS = {"up": "green", "draining": "yellow", "down": "red", "disabled": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """One node; ``name`` is SERVICE/NODE."""

    service: str
    node: Node

    @property
    def name(self) -> str:
        return f"{self.service}/{self.node.name}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that a key asked for, and that ``y`` confirms."""

    verb: Verb
    service: str
    node: str


@dataclass(frozen=True, slots=True)
class View:
    """``selected`` is a row's name, so that it stays the same node when the order of rows changes."""

    sort: Sort = Sort.NAME
    selected: str = ""
    asked: Wanted | None = None
    said: str = ""
    ended: bool = False


_Key = Callable[[Row], tuple[float | str, ...]]


def _rate(verdict: str) -> _Key:
    return lambda row: (-row.node.rates.get(verdict, 0.0), row.name)


_KEYS: dict[Sort, _Key] = {
    Sort.NAME: lambda row: (row.name,),
    Sort.STATE: lambda row: (row.node.state == "up", row.node.state, row.name),
    Sort.TOTAL: lambda row: (-rate(row.node), row.name),
    Sort.CID: _rate("cid"),
    Sort.FLOW: _rate("flow"),
    Sort.REPLY: _rate("reply"),
}


def rows(view: View, status: Status) -> list[Row]:
    """Every node in the view's order."""
    found = [Row(service.name, node) for service in status.services for node in service.nodes]
    return sorted(found, key=_KEYS[view.sort])


def pressed(view: View, key: str, status: Status) -> tuple[View, Wanted | None]:
    """The view after a key, and the order to give, if the key confirmed one."""
    if view.asked is not None:
        done = replace(view, asked=None, said="" if key == "y" else "not done")
        return done, view.asked if key == "y" else None
    view = replace(view, said="")
    if key in ("q", "\x03", "\x1b"):
        return replace(view, ended=True), None
    if key in _SORT_KEYS:
        return replace(view, sort=_SORT_KEYS[key]), None
    found = rows(view, status)
    if not found:
        return view, None
    place = place_of(view, found)
    if key in (*_DOWN, *_UP):
        place += 1 if key in _DOWN else -1
        return replace(view, selected=found[max(0, min(place, len(found) - 1))].name), None
    if key in _ORDER_KEYS:
        row = found[place]
        return replace(
            view, selected=row.name, asked=Wanted(_ORDER_KEYS[key], row.service, row.node.name)
        ), None
    return view, None


def place_of(view: View, found: list[Row]) -> int:
    """The selected row's place; the first one's where the selected node is gone."""
    return next((place for place, row in enumerate(found) if row.name == view.selected), 0)


def drawn(view: View, status: Status, now: float, height: int) -> Group:
    """The screen: a line about the gateway, the rows around the selected one, and a line for keys or a question."""
    found = rows(view, status)
    place = place_of(view, found) if found else 0
    room = max(1, height - 4)
    first = max(0, min(place - room // 2, len(found) - room))
    table = Table(box=None, pad_edge=False, expand=True)
    for column in ("service/node", "state", *list(Sort)[2:], "flows", "checks", "why"):
        right = column in (*list(Sort)[2:], "flows")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for row in found[first : first + room]:
        table.add_row(*_cells(row), style="reverse" if row is found[place] else "")
    head = f"{status.gateway}: {status.dataplane}, {len(found)} nodes, by {view.sort}; up for "
    head += f"{spoken(max(0.0, now - status.started))}, {status.repairs} repairs"
    if status.pending is not None:
        head += f"; rolls back in {spoken(max(0.0, status.pending.until - now))} unless confirmed"
    return Group(Text(head, no_wrap=True), table, Text(_foot(view), style="bold", no_wrap=True))


def _foot(view: View) -> str:
    if view.asked is not None:
        return f"{view.asked.verb} {view.asked.service}/{view.asked.node}? y, any other key: no"
    return printable(view.said) or HELP


def _cells(row: Row) -> tuple[str | Text, ...]:
    node = row.node
    return (
        row.name,
        Text(node.state, style=_COLOURS.get(node.state, "")),
        f"{rate(node):.1f}",
        *(f"{node.rates.get(verdict, 0.0):.1f}" for verdict in ("cid", "flow", "reply")),
        "" if node.flows is None else str(node.flows),
        Text(checks(node)),
        Text(printable(node.why)),
    )
