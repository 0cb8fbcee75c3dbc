"""What operators have ordered, which holds over every change of configuration and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pointsman.model.state import NodeState


class Verb(StrEnum):
    DRAIN = "drain"
    DISABLE = "disable"


STATES: Mapping[Verb, NodeState] = {Verb.DRAIN: NodeState.DRAINING, Verb.DISABLE: NodeState.DISABLED}


@dataclass(frozen=True, slots=True)
class Order:
    """``node`` None is the whole service. Times are seconds since the epoch; ``until`` None is for good."""

    service: str
    node: str | None
    verb: Verb
    who: str
    since: float
    reason: str = ""
    until: float | None = None

    @property
    def about(self) -> tuple[str, str | None]:
        return self.service, self.node


@dataclass(frozen=True, slots=True)
class Replacement:
    """Another machine in a node's place. ``instead_of`` is what the file said then: it holds until that changes."""

    service: str
    node: str
    addresses: tuple[str, ...]
    instead_of: tuple[str, ...]
    who: str
    since: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OrderBook:
    """At most one order for each node and service, and at most one replacement for each node."""

    orders: tuple[Order, ...] = ()
    replacements: tuple[Replacement, ...] = ()

    def about(self, service: str, node: str | None) -> Order | None:
        return next((order for order in self.orders if order.about == (service, node)), None)

    def with_order(self, order: Order) -> OrderBook:
        rest = self.without(order.service, order.node).orders
        return OrderBook((*rest, order), self.replacements)

    def without(self, service: str, node: str | None) -> OrderBook:
        rest = tuple(order for order in self.orders if order.about != (service, node))
        return OrderBook(rest, self.replacements)

    def with_replacement(self, replacement: Replacement) -> OrderBook:
        rest = [
            each
            for each in self.replacements
            if (each.service, each.node) != (replacement.service, replacement.node)
        ]
        return OrderBook(self.orders, (*rest, replacement))

    def keeping(self, replacements: Iterable[Replacement]) -> OrderBook:
        return OrderBook(self.orders, tuple(replacements))

    @property
    def nodes(self) -> dict[tuple[str, str], NodeState]:
        """The states that nodes are ordered to have, by (service, node)."""
        return {
            (order.service, order.node): STATES[order.verb] for order in self.orders if order.node is not None
        }

    @property
    def services(self) -> frozenset[str]:
        """Those that are disabled as a whole."""
        return frozenset(
            order.service for order in self.orders if order.node is None and order.verb is Verb.DISABLE
        )
