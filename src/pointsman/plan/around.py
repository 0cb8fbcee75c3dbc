"""The machine around the services, and what is found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman.model import Address, Endpoint, Family, Listener
from pointsman.plan.foreign import Filter
from pointsman.plan.multihome import MultihomeFacts
from pointsman.plan.source_findings import OwnSockets


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people; ``fatal`` ones keep a configuration from being applied."""

    text: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The machine around the services.

    ``mtu`` has every interface, ``addresses`` the interface that carries each address, ``routes`` the interface
    that packets to a node leave by (None: no route), ``vrf_routes`` the same by VRF, ``default_routes`` where
    strangers are. ``masters`` are what interfaces are enslaved to, as (name, kind), ``vrfs`` the devices of VRFs.
    ``routers`` are the next hops to those nodes that should be on a link of this machine and are not, ``ethernet``
    the interfaces with a MAC address. ``bound`` are UDP sockets, ``listening`` TCP's. ``silent`` are the interfaces
    that do not forward though the machine does, ``merging`` offloads by interface. ``filters`` are other people's
    chains, ``unread`` says of others why they were not read. ``own_sockets`` is what full-nat's sources must keep
    clear of, ``translating_first`` are other people's chains that rewrite sources before full-nat does.
    ``multihome`` is what multihomed servers ask for.
    """

    mtu: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[Address, str] = field(default_factory=dict)
    routes: Mapping[Address, str | None] = field(default_factory=dict)
    vrf_routes: Mapping[tuple[str, Address], str | None] = field(default_factory=dict)
    default_routes: Mapping[Family, str] = field(default_factory=dict)
    masters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    vrfs: frozenset[str] = frozenset()
    routers: Mapping[Address, str] = field(default_factory=dict)
    ethernet: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    bound: frozenset[Endpoint] = frozenset()
    listening: frozenset[Endpoint] = frozenset()
    merging: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    unread: tuple[str, ...] = ()
    own_sockets: OwnSockets | None = None
    translating_first: tuple[str, ...] = ()
    multihome: MultihomeFacts = field(default_factory=MultihomeFacts)

    def clients_link(self, listener: Listener) -> str | None:
        """The interface that the listener's clients come by, as far as that can be told."""
        found = listener.interface or self.addresses.get(listener.endpoint.address)
        return self.default_routes.get(listener.family) if found in (None, "lo") else found

    def link_to(self, node: Address) -> str | None:
        """The interface that packets to the node leave by, in whichever table."""
        found = self.routes.get(node)
        return found or next((to for (_, asked), to in self.vrf_routes.items() if asked == node and to), None)

    def vrf_of(self, interface: str | None) -> str | None:
        if interface in self.vrfs:
            return interface
        master, kind = self.masters.get(interface or "", ("", ""))
        return master if kind == "vrf" else None
