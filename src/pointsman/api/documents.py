"""What the API says and is told, as pydantic models: the OpenAPI description is made from them.

Times are seconds since the epoch; durations are seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    # Commands that ask no daemon need not wait for validators.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Count(_Document):
    packets: int
    bytes: int


Counters = dict[str, Count]
"""By verdict; see docs/reference/verdicts.md."""


class Verb(StrEnum):
    """What an operator can order about a node or a service."""

    DRAIN = "drain"
    DISABLE = "disable"
    ENABLE = "enable"


class Order(_Document):
    """An operator's word that holds until the next one, or until ``until``. ``node`` None: the whole service."""

    service: str
    node: str | None = None
    verb: Verb
    who: str
    since: float
    reason: str = ""
    until: float | None = None


class CheckResult(_Document):
    """One check of one node. ``healthy`` None: no verdict yet; where not ``tried``, its verdict is an old one."""

    kind: str
    target: str
    healthy: bool | None = None
    since: float | None = None
    said: str = ""
    latency: float | None = None
    changes: Annotated[
        int, Field(description="Changes of verdict in the last ten minutes; many: it flaps.")
    ] = 0
    tried: Annotated[
        bool, Field(description="Whether the last try could be made; `said` is why it could not.")
    ] = True


class Node(_Document):
    name: str
    id: int | None = None
    state: str
    why: Annotated[str, Field(description="Who or what the state is from: an order, a check, nothing.")] = ""
    share: Annotated[int, Field(description="Percent of its weight that it takes in a slow start.")] = 100
    weight: int
    backup: bool = False
    addresses: list[str]
    flows: Annotated[int | None, Field(description="Remembered flows, where the data plane counts them.")] = (
        None
    )
    counters: Counters = {}
    rates: Annotated[dict[str, float], Field(description="Packets per second by verdict, lately.")] = {}
    sign: Annotated[
        str,
        Field(description="What is seen of it without asking, as that it answers nothing; empty: nothing."),
    ] = ""
    checks: list[CheckResult] = []
    order: Order | None = None


class Listener(_Document):
    address: str
    counters: Counters = {}


class Service(_Document):
    name: str
    protocol: str
    forward: str
    scheduler: str
    disabled: bool = False
    state: Annotated[str, Field(description="In a word: up, degraded, backup, kept, down, disabled.")] = "up"
    listeners: list[Listener]
    nodes: list[Node]


class Guard(_Document):
    """The filter before a server on this machine itself."""

    name: str
    interfaces: list[str]
    ports: list[str]
    mode: str
    counters: Counters = {}


class Leaving(_Document):
    """A removed node that is still served."""

    service: str
    node: str


class Interface(_Document):
    name: str
    mode: str
    reason: str = ""


class Pending(_Document):
    """An applied configuration that rolls back at ``until`` unless it is confirmed."""

    until: float
    back_to: int | None = None


class Status(_Document):
    """``stale`` says why the running configuration is not the file's; "" where it is."""

    gateway: str
    filename: str
    dataplane: str
    dataplane_reason: str
    version: str
    started: float
    applied: Annotated[float | None, Field(description="When the data plane was last changed.")] = None
    stale: str = ""
    repairs: int = 0
    pending: Pending | None = None
    counters: Counters = {}
    services: list[Service] = []
    interfaces: list[Interface] = []
    beside: dict[str, list[str]] = {}
    findings: list[str] = []
    guards: list[Guard] = []
    leaving: list[Leaving] = []


class Event(_Document):
    """``kind`` is one of the words in docs/reference/events.md; ``number`` counts from 1 at the daemon's start."""

    number: int
    at: float
    kind: str
    service: str = ""
    node: str = ""
    who: str = ""
    text: str
    more: dict[str, Any] = {}


class OrderRequest(_Document):
    verb: Verb
    reason: Annotated[str, Field(max_length=500)] = ""
    seconds: Annotated[float | None, Field(description="How long it holds.", gt=0, le=31_536_000)] = None


class ReplaceRequest(_Document):
    """Another machine takes over the node's name, id and order of things: its addresses, as in the file."""

    address: Annotated[list[str], Field(min_length=1, max_length=2)]
    reason: Annotated[str, Field(max_length=500)] = ""


class ApplyRequest(_Document):
    """A configuration as text; with ``confirm`` it rolls back after so many seconds unless confirmed."""

    text: Annotated[str, Field(max_length=64 << 20)]
    filename: Annotated[str, Field(max_length=4096)] = "configuration.toml"
    confirm: Annotated[float | None, Field(gt=0, le=86_400)] = None


class Applied(_Document):
    """What was changed, in words, and the number that the configuration is kept under."""

    changes: list[str]
    warnings: list[str] = []
    number: int | None = None


class Kept(_Document):
    """A configuration that was in force."""

    number: int
    at: float
    filename: str
    who: str
    size: int
    digest: str
    current: bool = False


class Drained(_Document):
    """What still names a draining node. ``devices`` estimates the distinct connection IDs that do, None: unknown."""

    service: str
    node: str
    state: str
    cid_per_second: float
    flow_per_second: float
    flows: int | None = None
    devices: int | None = None
    quiet: Annotated[float, Field(description="Seconds since anything last named it.")]
    order: Annotated[
        Order | None, Field(description="The order about it that holds; it drains by one to drain.")
    ]


class Problem(_Document):
    """Why something was refused (RFC 9457); ``errors`` are the configuration's, one line each."""

    title: str
    status: int
    detail: str = ""
    errors: list[str] = []


class CounterRow(_Document):
    """One counter and whose it is: a node's, a listener's, a guard's, or with none of these the gateway's."""

    service: str = ""
    node: str = ""
    listener: str = ""
    guard: str = ""
    verdict: str
    packets: int
    bytes: int


class FlowRow(_Document):
    """How many flows are remembered for a node; ``services`` are several where the memory cannot tell whose."""

    services: list[str]
    node: Annotated[str, Field(description="Empty: of nodes that are gone.")]
    kind: Annotated[str, Field(description="flow, new, answered, closing, network.")]
    flows: int
    leaving: Annotated[bool, Field(description="The configuration names the node no more.")] = False


class Alive(_Document):
    status: Annotated[str, Field(description="ok: the daemon answers.")] = "ok"
    version: str


def counter_rows(status: Status) -> list[CounterRow]:
    """Every counter of the status, a row for each."""
    owners: list[tuple[dict[str, str], Counters]] = [({}, status.counters)]
    owners += [({"guard": guard.name}, guard.counters) for guard in status.guards]
    for service in status.services:
        owners += [
            ({"service": service.name, "listener": one.address}, one.counters) for one in service.listeners
        ]
        owners += [({"service": service.name, "node": node.name}, node.counters) for node in service.nodes]
    return [
        CounterRow(verdict=verdict, packets=count.packets, bytes=count.bytes, **owner)
        for owner, counters in owners
        for verdict, count in counters.items()
    ]
