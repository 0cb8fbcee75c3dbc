"""What on this machine stands in the way of the services, found before an operator's users find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from pointsman.model import Address, Endpoint, Family, Forward, Gateway, Listener, Protocol, Service
from pointsman.model.abilities import XDP
from pointsman.plan.around import Finding, Surroundings
from pointsman.plan.filter_findings import filter_findings
from pointsman.plan.findings_direct import direct_findings
from pointsman.plan.foreign import UNTRACKED, Packet, drops, line_to_add
from pointsman.plan.full_nat import impossible
from pointsman.plan.multihome_findings import found_about
from pointsman.plan.source_findings import source_findings

__all__ = ["Finding", "Surroundings", "fatal", "find", "foreign_filters", "passed_by", "vrfs_asked"]

PACKETS_TRIED = 512
"""Kinds of packets that are sent through every foreign filter; more are more of the same."""


def find(gateway: Gateway, around: Surroundings, plane: str = "nftables") -> list[Finding]:
    """Everything worth telling of a gateway on a data plane, fatal findings first."""
    found = [
        *_interfaces(gateway, around),
        *_of_filters(gateway, around, plane),
        *_port_conflicts(gateway, around),
        *_routes(gateway, around),
        *_vrf_routes(gateway, around),
        *_forwarding(gateway, around),
        *(Finding(text) for text in source_findings(gateway, around.own_sockets)),
        *direct_findings(gateway, around, plane),
        *(Finding(line, fatal=True) for line in impossible(gateway, plane)),
        *(_guards(gateway, around) if plane == XDP else ()),
    ]
    found += [*_policy(gateway, around, plane), *_multihome(gateway, around)]
    if plane == "nftables" and gateway.services:
        # XDP answers what is too big, comes before anything is merged, and passes other people's chains by.
        found += [*_link_mtus(gateway, around), *_merging(around), *foreign_filters(gateway, around)]
        found += _translated_by_others(gateway, around)
    return sorted(dict.fromkeys(found), key=lambda finding: not finding.fatal)


def _of_filters(gateway: Gateway, around: Surroundings, plane: str) -> Iterator[Finding]:
    for text, stops in filter_findings(gateway, plane, around.mtu, around.masters, around.down):
        yield Finding(text, fatal=stops)


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
    for service in gateway.services:
        bound = around.listening if service.protocol is Protocol.TCP else around.bound
        for listener in service.listeners:
            yield from _port_conflict(
                f"service {service.name}, listener {listener.endpoint}", listener, bound
            )


def _port_conflict(label: str, listener: Listener, bound: frozenset[Endpoint]) -> Iterator[Finding]:
    if listener.endpoint in bound:
        yield Finding(
            f"{label}: a program on this machine is bound to it and would hear nothing any more; "
            "stop it, or take another port",
            fatal=True,
        )
        return
    # A socket bound to :: may take IPv4 as well; that cannot be seen from outside.
    wildcards: list[Address] = [IPv6Address(0)]
    if listener.family is Family.V4:
        wildcards.append(IPv4Address(0))
    if any(Endpoint(address, listener.endpoint.port) in bound for address in wildcards):
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


def _guards(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """A guard's program is the only one on its interfaces."""
    used: dict[str | None, str] = dict.fromkeys(gateway.interfaces, "the gateway's interfaces")
    for label, address in _node_addresses(gateway):
        used.setdefault(around.link_to(address), label)
    for label, listener in _listeners(gateway):
        used.setdefault(around.clients_link(listener), f"the clients of {label}")
    for guard in gateway.guards:
        for name in guard.interfaces:
            if name in used:
                yield Finding(
                    f"guard {guard.name}: {name} is used by {used[name]} too, and xdp has one program for each "
                    'interface; [service.filter] filters what comes to a service, or dataplane = "nftables"',
                    fatal=True,
                )


def _link_mtus(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """Errors about datagrams too big for the nodes' link are suppressed, so it must not be the smaller one."""
    pairs = {
        (around.clients_link(listener), device)
        for service in gateway.services
        if not service.forward.answers_pass_by  # it is the kernel that reports those, and quotes no node
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


def _policy(gateway: Gateway, around: Surroundings, plane: str) -> Iterator[Finding]:
    if gateway.forwarding is None:
        return
    for name in gateway.forwarding.interfaces:
        if name not in around.mtu:
            yield Finding(f"forwarding: there is no interface {name}; the policy is for it when it is there")
    if plane == XDP and any(_link_mtus(gateway, around)):
        yield Finding(
            "forwarding: clients' link has a larger MTU than nodes', and what XDP leaves to the kernel to be cut up "
            "cannot be told from what is sent to nodes directly: it is dropped (not_forwarded); make the MTUs equal"
        )


def _multihome(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for text, fatal_one in found_about(gateway, around.multihome, around.addresses):
        yield Finding(text, fatal_one)


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
        packets = islice(_packets(gateway, around, filter_.hook), PACKETS_TRIED)
        for why, packet in drops(filter_, packets):
            line = line_to_add(filter_, packet.protocol, packet.state)
            yield Finding(f"{filter_.name} would drop what the services forward ({why}); add: {line}")
    for reason in around.unread:
        yield Finding(reason)


def _translated_by_others(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    if not any(service.sources for service in gateway.services):
        return
    for name in around.translating_first:
        yield Finding(
            f"{name} rewrites sources before full-nat does; what it takes of the services' packets is dropped "
            "(not_tracked): give it the priority srcnat, or exempt the nodes"
        )


def _packets(gateway: Gateway, around: Surroundings, hook: str) -> Iterator[Packet]:
    """The services' packets as chains at ``hook`` see them, behind our own at raw priority."""
    seen = set()
    for service in gateway.services:
        if service.forward.answers_pass_by:
            continue  # they are gone before these chains; their copies are the gateway's own
        for packet in _packets_of(service, around, hook):
            if packet not in seen:
                seen.add(packet)
                yield packet


def _packets_of(service: Service, around: Surroundings, hook: str) -> Iterator[Packet]:
    protocol = "tcp" if service.protocol is Protocol.TCP else "udp"
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
            there = Packet(family, iif=clients, oif=leaving_by, daddr=to.address, dport=to.port)
            if hook == "postrouting":
                back = Packet(family, iif=link, oif=clients, saddr=vip.address, sport=vip.port)
            else:
                leaving_by = None if hook == "prerouting" else clients
                back = Packet(family, iif=link, oif=leaving_by, saddr=to.address, sport=to.port)
            tracked = service.forward is Forward.FULL_NAT
            yield replace(there, protocol=protocol, state="new" if tracked else UNTRACKED)
            yield replace(back, protocol=protocol, state="established" if tracked else UNTRACKED)


def passed_by(around: Surroundings) -> str:
    """What the packets of an XDP plane do not meet on this machine, in a line."""
    names = [filter_.name for filter_ in around.filters]
    chains = f"{', '.join(names[:4])}{' and others' if len(names) > 4 else ''}, " if names else ""
    return f"{chains}nftables and iptables in general, connection tracking, tc filters and tcpdump"


def fatal(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.fatal]
