"""What a node takes, from what the operator ordered, what checks found, and how long it has been back.

Nothing here knows a clock: times are seconds on whichever clock the caller has, and come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from pointsman.model import FULL_SHARE, AllDown, Gateway, Node, NodeState, NodeStates, Service
from pointsman.plan.members import members

FIRST_SHARE = 10
"""Percent of its weight that a node takes when it comes back; also what each step adds."""
STEPS = FULL_SHARE // FIRST_SHARE - 1
"""Steps after the first share. Each makes tables anew, so there are few: docs/adr/0032-slow-start-by-weights.md."""

Key = tuple[str, str]
"""A service's name and its node's."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The operator's: ``nodes`` that are draining or disabled, ``services`` that are disabled as a whole."""

    nodes: Mapping[Key, NodeState] = field(default_factory=dict)
    services: frozenset[str] = frozenset()

    def of(self, service: str, node: str) -> NodeState:
        if service in self.services:
            return NodeState.DISABLED
        return self.nodes.get((service, node), NodeState.UP)


def effective(
    gateway: Gateway,
    orders: Orders,
    healthy: Mapping[Key, bool],
    started: Mapping[Key, float],
    now: float,
    last: NodeStates,
) -> NodeStates:
    """Combine orders, verdicts of checks and slow starts into the states and shares that tables are made from.

    A node without a verdict in ``healthy`` is taken for what it was in ``last``, the states that are in force:
    ``down`` there, else healthy. ``started`` says when nodes came back, see ``comebacks``.
    """
    states: dict[Key, NodeState] = {}
    for service in gateway.services:
        states |= _states(service, orders, healthy, last)
    found = NodeStates(states)
    shares = (_shares(service, found, started, now) for service in gateway.services)
    return NodeStates(found.exceptions, dict(chain.from_iterable(each.items() for each in shares)))


def next_step(gateway: Gateway, states: NodeStates, started: Mapping[Key, float], now: float) -> float | None:
    """When time alone will next change the shares of ``states``, which are ``effective`` at ``now``; None: never."""
    steps = (_next_step(service, states, started, now) for service in gateway.services)
    return min((step for step in steps if step is not None), default=None)


def comebacks(
    gateway: Gateway, before: NodeStates, after: NodeStates, started: Mapping[Key, float], now: float
) -> dict[Key, float]:
    """Who started when, for the next ``effective``: nodes that are up again since ``before``, and those under way.

    Nodes that the gateway did not have before are up from the beginning, as ``before`` has nothing against them.
    """
    found: dict[Key, float] = {}
    for service in gateway.services:
        for node in service.nodes if service.slow_start else ():
            key = _key(service, node)
            if after.of(*key) is not NodeState.UP:
                continue
            if before.of(*key) is not NodeState.UP:
                found[key] = now
            elif key in started and started[key] + service.slow_start > now:
                found[key] = started[key]
    return found


def resumed(gateway: Gateway, states: NodeStates, now: float) -> dict[Key, float]:
    """Who started when, judged by the shares in force: for a caller that was not there when they did.

    Each is taken to be in the middle of its step.
    """
    return {
        key: now - service.slow_start * (states.share(*key) // FIRST_SHARE - 0.5) / STEPS
        for service in gateway.services
        if service.slow_start
        for node in service.nodes
        if (key := _key(service, node)) in states.shares
    }


def _states(
    service: Service, orders: Orders, healthy: Mapping[Key, bool], last: NodeStates
) -> dict[Key, NodeState]:
    ordered = {_key(service, node): orders.of(service.name, node.name) for node in service.nodes}
    left = {key: state for key, state in ordered.items() if state is not NodeState.DISABLED}
    down = {key for key in left if not healthy.get(key, last.of(*key) is not NodeState.DOWN)}
    if service.all_down is AllDown.KEEP and len(down) == len(left):
        # One that works would show that the checks do.
        down = {key for key in left if last.of(*key) is NodeState.DOWN}
        if len(down) == len(left):
            down = set()
    return ordered | dict.fromkeys(down, NodeState.DOWN)


def _shares(service: Service, states: NodeStates, started: Mapping[Key, float], now: float) -> dict[Key, int]:
    """The shares of nodes under way, where they tell them from others that take new flows."""
    if not any(_key(service, node) in started for node in service.nodes):
        return {}
    taking = [name for name, _ in members(service, states.of_all(service))]
    shares = {
        name: share_at(started[service.name, name], service.slow_start, now)
        for name in taking
        if (service.name, name) in started
    }
    if len({shares.get(name, FULL_SHARE) for name in taking}) <= 1:
        return {}
    return {(service.name, name): share for name, share in shares.items() if share != FULL_SHARE}


def share_at(start: float, seconds: int, now: float) -> int:
    """Percent of its weight that a node takes at ``now`` which came back at ``start``."""
    return FIRST_SHARE + FIRST_SHARE * sum(step <= now for step in _steps(start, seconds))


def _steps(start: float, seconds: int) -> Iterator[float]:
    """When the share grows; the last step makes it full."""
    return (start + seconds * step / STEPS for step in range(1, STEPS + 1))


def _next_step(
    service: Service, states: NodeStates, started: Mapping[Key, float], now: float
) -> float | None:
    starts = [started[key] for node in service.nodes if (key := _key(service, node)) in started]
    if not starts:
        return None
    current = _shares(service, states, started, now)
    times = sorted({step for start in starts for step in _steps(start, service.slow_start) if step > now})
    return next((step for step in times if _shares(service, states, started, step) != current), None)


def _key(service: Service, node: Node) -> Key:
    return service.name, node.name
