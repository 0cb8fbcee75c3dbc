"""What the daemon wants of the machine, from everything that it knows: a value, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pointsman.config import Loaded
from pointsman.model import Gateway, NodeState, NodeStates, Passive
from pointsman.model.orders import STATES, Order, OrderBook, Replacement
from pointsman.plan.effective import Orders, comebacks, effective

Key = tuple[str, str]
"""Service and node."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``healthy`` are the checks' verdicts, ``started`` is when nodes came back that start slowly.

    Times are on the clock of reconcile.state.now(). ``loaded`` is what the text says, without replacements; ``held``
    are down by passive signs.
    """

    loaded: Loaded
    book: OrderBook = field(default_factory=OrderBook)
    healthy: Mapping[Key, bool] = field(default_factory=lambda: MappingProxyType({}))
    started: Mapping[Key, float] = field(default_factory=lambda: MappingProxyType({}))
    held: frozenset[Key] = frozenset()

    @property
    def gateway(self) -> Gateway:
        return self.loaded.gateway

    def replacements(self) -> dict[Key, tuple[str, ...]]:
        """Those that hold: the file still says of the node what it said when the order was given."""
        return {
            (each.service, each.node): each.addresses for each in self.book.replacements if self._holds(each)
        }

    def book_that_holds(self) -> OrderBook:
        """Without replacements that the file has contradicted since."""
        return self.book.keeping(each for each in self.book.replacements if self._holds(each))

    def _holds(self, replacement: Replacement) -> bool:
        return addresses_of(self.gateway, replacement.service, replacement.node) == replacement.instead_of

    def with_verdict(self, key: Key, *, healthy: bool) -> Wanted:
        return replace(self, healthy=MappingProxyType({**self.healthy, key: healthy}))

    @property
    def orders(self) -> Orders:
        return Orders(self.book.nodes, self.book.services)

    def states(self, last: NodeStates, now: float) -> NodeStates:
        """The states that tables are to be made from; ``last`` are those in force."""
        return effective(self.gateway, self.orders, self._verdicts(), self.started, now, last)

    def _verdicts(self) -> dict[Key, bool]:
        """Those of the checks, and a failing one for each node that is held, which decides where there are none."""
        found = dict(self.healthy)
        for service in self.gateway.services:
            for node in service.nodes if service.passive is Passive.COUNT else ():
                key = service.name, node.name
                if key in self.held:
                    found[key] = False
                elif not service.checks:
                    found[key] = True
        return found

    def after(self, before: NodeStates, states: NodeStates, now: float) -> Wanted:
        """Note who is back, now that ``states`` are to be in force in place of ``before``."""
        return replace(self, started=comebacks(self.gateway, before, states, self.started, now))

    def with_loaded(self, loaded: Loaded) -> Wanted:
        """Another text. Orders about what it has not are kept, as the next one may have it again."""
        known = {(service.name, node.name) for service in loaded.gateway.services for node in service.nodes}
        checked = {service.name for service in loaded.gateway.services if service.checks}
        healthy = {key: value for key, value in self.healthy.items() if key in known and key[0] in checked}
        return replace(self, loaded=loaded, healthy=MappingProxyType(healthy))


def addresses_of(gateway: Gateway, service: str, node: str) -> tuple[str, ...]:
    """A node's addresses as a file would say them, () where there is no such node."""
    found = gateway.service(service)
    member = found.node(node) if found is not None else None
    if member is None:
        return ()
    return tuple(
        str(own.address)
        if own.port is None
        else (f"[{own.address}]:{own.port}" if ":" in str(own.address) else f"{own.address}:{own.port}")
        for own in member.addresses
    )


def adopted(states: NodeStates, book: OrderBook, who: str, now: float) -> OrderBook:
    """The book with orders that nodes have by their states but not in it: of before there was a daemon."""
    verbs = {state: verb for verb, state in STATES.items()}
    for (service, node), state in states.exceptions.items():
        if state in verbs and book.about(service, node) is None and service not in book.services:
            book = book.with_order(Order(service, node, verbs[state], who, now))
    return book


def last_known(states: NodeStates) -> Mapping[Key, bool]:
    """Nodes that checks had found down when the tables were made, until a check says otherwise."""
    return MappingProxyType(
        {key: False for key, state in states.exceptions.items() if state is NodeState.DOWN}
    )
