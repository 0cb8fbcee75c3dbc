"""What stands in the way of services whose nodes answer by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.model import Encapsulation, Family, Forward, Gateway, Listener, Service
from pointsman.plan.around import Finding, Surroundings

LEAST_IPV6 = 1280
"""No link of IPv6 may carry less (RFC 8200 section 5)."""


def overhead(service: Service, family: Family) -> int:
    """Bytes that the service's tunnel puts before a packet, 0 without one."""
    if service.tunnel is None:
        return 0
    gue = 8 if service.tunnel.encapsulation is Encapsulation.GUE else 0
    return gue + (20 if family is Family.V4 else 40)


def direct_findings(gateway: Gateway, around: Surroundings, plane: str) -> Iterator[Finding]:
    """Findings about routes, outer sources, sizes and the kinds of links."""
    for service in gateway.services:
        if service.forward is Forward.DSR:
            yield from _routers(service, around)
        if service.forward is Forward.TUNNEL:
            yield from _sources(service, around)
            yield from _sizes(service, around)
        if service.forward.answers_pass_by and plane == "nftables":
            yield from _links(service, around)


def _routers(service: Service, around: Surroundings) -> Iterator[Finding]:
    for node in service.nodes:
        for own in node.addresses:
            router = around.routers.get(own.address)
            if router is not None:
                yield Finding(
                    f"service {service.name}, node {node.name}: {own.address} is behind the router {router}, which "
                    "would send the VIP's packets back here; "
                    'name an address on a link of this machine, or say forward = "tunnel"',
                    fatal=True,
                )


def _sources(service: Service, around: Surroundings) -> Iterator[Finding]:
    for source in service.sources.addresses if service.sources is not None else ():
        if around.addresses and source not in around.addresses:
            yield Finding(
                f"service {service.name}: source {source} is no address of this machine; "
                "take one that the nodes' routers know the way to",
                fatal=True,
            )


def _sizes(service: Service, around: Surroundings) -> Iterator[Finding]:
    told = set()
    for listener in service.listeners:
        clients, bytes_before = around.clients_link(listener), overhead(service, listener.family)
        for node in service.nodes:
            endpoint = node.endpoint(listener)
            link = around.link_to(endpoint.address) if endpoint is not None else None
            room = around.mtu.get(link or "")
            if room is None or (link, bytes_before) in told:
                continue
            told.add((link, bytes_before))
            fits = room - bytes_before
            if listener.family is Family.V6 and fits < LEAST_IPV6:
                least = LEAST_IPV6 + bytes_before
                yield Finding(
                    f"service {service.name}: the nodes' link {link} has MTU {room}, which leaves {fits} bytes for "
                    f"IPv6 in a tunnel; {LEAST_IPV6} are the least: `ip link set {link} mtu {least}` or more",
                    fatal=True,
                )
            elif around.mtu.get(clients or "", 0) > fits:
                yield Finding(
                    f"service {service.name}: clients' link {clients} has MTU {around.mtu[clients or '']}, and the "
                    f"tunnel over {link} takes {fits}: larger packets are answered as too big; if the whole way "
                    f"to the nodes allows it, `ip link set {link} mtu {around.mtu[clients or ''] + bytes_before}`"
                )


def _links(service: Service, around: Surroundings) -> Iterator[Finding]:
    for listener in service.listeners:
        link = around.clients_link(listener)
        label = _label(service, listener)
        if link in around.mtu and around.ethernet and link not in around.ethernet and link not in around.vrfs:
            yield Finding(
                f"{label}: {link} is no Ethernet, where nftables has no place to note the node in; "
                'dataplane = "xdp" needs Ethernet too: let clients in by another link, or use forward = "nat"',
                fatal=True,
            )
        if around.vrf_of(link) is not None:
            yield Finding(
                f"{label}: {link} is in the VRF {around.vrf_of(link)}, and nftables sends to nodes by the main table "
                'only; dataplane = "xdp" goes by the VRF',
                fatal=True,
            )


def _label(service: Service, listener: Listener) -> str:
    return f"service {service.name}, listener {listener.endpoint}"
