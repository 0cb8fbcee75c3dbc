"""What on this machine stands in the way of the services, found before an operator's users find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from pointsman.model import Address, Endpoint, Family, Gateway, Listener, Service
from pointsman.plan.foreign import Filter, Packet, first_drop, line_to_add

PACKETS_TRIED = 512
"""Kinds of packets that are sent through every foreign filter; more are more of the same."""


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
    ``silent`` are the interfaces that do not forward though the machine does, ``merging`` offloads by interface.
    ``filters`` are other people's chains, ``unread`` says of others why they were not read.
    """

    mtu: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[Address, str] = field(default_factory=dict)
    routes: Mapping[Address, str | None] = field(default_factory=dict)
    vrf_routes: Mapping[tuple[str, Address], str | None] = field(default_factory=dict)
    default_routes: Mapping[Family, str] = field(default_factory=dict)
    masters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    vrfs: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    bound: frozenset[Endpoint] = frozenset()
    merging: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    unread: tuple[str, ...] = ()

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


def find(gateway: Gateway, around: Surroundings) -> list[Finding]:
    """Everything worth telling, fatal findings first."""
    found = [
        *_interfaces(gateway, around),
        *_port_conflicts(gateway, around),
        *_routes(gateway, around),
        *_vrf_routes(gateway, around),
        *_forwarding(gateway, around),
        *_link_mtus(gateway, around),
        *_merging(around),
        *foreign_filters(gateway, around),
    ]
    return sorted(dict.fromkeys(found), key=lambda finding: not finding.fatal)


def _listeners(gateway: Gateway) -> Iterator[tuple[str, Listener]]:
    """Each with how a line about it begins."""
    for service in gateway.services:
        for listener in service.listeners:
            yield f"service {service.name}, listener {listener.endpoint}", listener


def _interfaces(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    uncarried: set[Address] = set()
    for label, listener in _listeners(gateway):
        vip, interface = listener.endpoint.address, listener.interface
        there = around.addresses.get(vip)
        if interface is None:
            if there is None and vip not in uncarried:
                uncarried.add(vip)  # said once for all its ports
                yield Finding(
                    f"{label}: no interface carries {vip}; "
                    "name one (interface = ...), or see that the address is routed to this machine"
                )
            continue
        if interface not in around.mtu:
            known = ", ".join(name for name in sorted(around.mtu) if name != "lo")
            yield Finding(f"{label}: there is no interface {interface}; one of {known}", fatal=True)
            continue
        master, kind = around.masters.get(interface, ("", ""))
        if kind in ("bridge", "bond", "team"):
            yield Finding(
                f"{label}: interface {interface} is a part of the {kind} {master}, which takes all that arrives; "
                f"name {master}",
                fatal=True,
            )
        if there not in (None, interface):
            yield Finding(
                f"{label}: {vip} is carried by {there} already and is left there; neighbours on {interface} are "
                "not told of it (and for IPv6 get no answer)"
            )
        if interface in around.down:
            yield Finding(f"{label}: interface {interface} is down; `ip link set {interface} up`")


def _port_conflicts(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for label, listener in _listeners(gateway):
        if listener.endpoint in around.bound:
            yield Finding(
                f"{label}: a program on this machine is bound to it and would hear nothing any more; "
                "stop it, or take another port",
                fatal=True,
            )
            continue
        # A socket bound to :: may take IPv4 as well; that cannot be seen from outside.
        wildcards: list[Address] = [IPv6Address(0)]
        if listener.family is Family.V4:
            wildcards.append(IPv4Address(0))
        if any(Endpoint(address, listener.endpoint.port) in around.bound for address in wildcards):
            yield Finding(
                f"{label}: a program on this machine is bound to port {listener.endpoint.port} of every address; "
                f"it will not hear what is sent to {listener.endpoint.address}"
            )


def _node_addresses(gateway: Gateway) -> Iterator[tuple[str, Address]]:
    """Each with how a line about it begins."""
    for service in gateway.services:
        for node in service.nodes:
            for own in node.addresses:
                yield f"service {service.name}, node {node.name}", own.address


def _routes(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for label, address in _node_addresses(gateway):
        if address not in around.routes:
            continue
        device = around.link_to(address)
        if device is None:
            yield Finding(f"{label}: no route to {address}; add one")
        elif device == "lo":
            yield Finding(
                f"{label}: {address} is this machine's own; a node is another machine or network namespace",
                fatal=True,
            )


def vrfs_asked(gateway: Gateway, around: Surroundings) -> set[str]:
    """The VRFs that clients' packets are routed in."""
    found = (around.vrf_of(around.clients_link(listener)) for _, listener in _listeners(gateway))
    return {vrf for vrf in found if vrf is not None}


def _vrf_routes(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for service in gateway.services:
        for listener in service.listeners:
            link = around.clients_link(listener)
            vrf = around.vrf_of(link)
            for node in service.nodes:
                endpoint = node.endpoint(listener)
                if vrf is None or endpoint is None:
                    continue
                if around.vrf_routes.get((vrf, endpoint.address), "") is None:
                    yield Finding(
                        f"service {service.name}, node {node.name}: what arrives on {link} is routed by the VRF "
                        f"{vrf}, which has no route to {endpoint.address}; add one to its table, or put the "
                        "nodes' link into it"
                    )


def _forwarding(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """Where forwarding is on already, an interface that it was switched off for is left as it is."""
    links = {around.clients_link(listener) for _, listener in _listeners(gateway)}
    links |= {around.link_to(address) for _, address in _node_addresses(gateway)}
    for interface in sorted(around.silent & links):
        yield Finding(
            f"forwarding is on but not for {interface}: IPv4 packets that arrive there are not forwarded; "
            f"`sysctl net.ipv4.conf.{interface.replace('.', '/')}.forwarding=1`"
        )


def _link_mtus(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """Errors about datagrams too big for the nodes' link are suppressed, so it must not be the smaller one."""
    pairs = {
        (around.clients_link(listener), device)
        for service in gateway.services
        for listener in service.listeners
        for node in service.nodes
        if (endpoint := node.endpoint(listener)) and (device := around.link_to(endpoint.address))
    }
    # The device of a VRF has no link of its own.
    known = around.mtu.keys() - around.vrfs
    for client, node in sorted((a, b) for a, b in pairs if a and {a, b} <= known):
        if around.mtu[client] > around.mtu[node]:
            yield Finding(
                f"clients' link {client} has MTU {around.mtu[client]}, nodes' link {node} only "
                f"{around.mtu[node]}: larger datagrams that must not be fragmented are lost in silence; "
                f"raise the MTU of {node} or lower that of {client}"
            )


def _merging(around: Surroundings) -> Iterator[Finding]:
    for interface, offloads in sorted(around.merging.items()):
        for offload in offloads:
            yield Finding(
                f"{interface} merges datagrams of different sessions ({offload} is on) and all would go to the "
                f"node of the first; `ethtool -K {interface} {offload} off`"
            )


def foreign_filters(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """Other people's chains that would drop what the services forward, in either direction."""
    for filter_ in around.filters:
        why = first_drop(filter_, islice(_packets(gateway, around, filter_.hook), PACKETS_TRIED))
        if why is not None:
            yield Finding(
                f"{filter_.name} would drop what the services forward ({why}); add: {line_to_add(filter_)}"
            )
    for reason in around.unread:
        yield Finding(reason)


def _packets(gateway: Gateway, around: Surroundings, hook: str) -> Iterator[Packet]:
    """The services' packets as chains at ``hook`` see them, behind our own at raw priority."""
    seen = set()
    for service in gateway.services:
        for packet in _packets_of(service, around, hook):
            if packet not in seen:
                seen.add(packet)
                yield packet


def _packets_of(service: Service, around: Surroundings, hook: str) -> Iterator[Packet]:
    for listener in service.listeners:
        clients, vip = around.clients_link(listener), listener.endpoint
        if around.vrf_of(clients):
            clients = None  # chains see the VRF's device or the interface in it, depending on where they are
        for node in service.nodes:
            to = node.endpoint(listener)
            if to is None:
                continue
            family, link = listener.family, around.link_to(to.address)
            leaving_by = None if hook == "prerouting" else link
            yield Packet(family, iif=clients, oif=leaving_by, daddr=to.address, dport=to.port)
            if hook == "postrouting":
                yield Packet(family, iif=link, oif=clients, saddr=vip.address, sport=vip.port)
            else:
                leaving_by = None if hook == "prerouting" else clients
                yield Packet(family, iif=link, oif=leaving_by, saddr=to.address, sport=to.port)


def fatal(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.fatal]
