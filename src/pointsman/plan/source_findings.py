"""Whether full-nat's source addresses and ports are the gateway's to hand out: its own programs must not use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.model import Address, Endpoint, Forward, Gateway, PortRange, Protocol, Service, Sources


@dataclass(frozen=True, slots=True)
class OwnSockets:
    """What the gateway's programs may be met on.

    ``carried`` are its addresses, ``preferred`` those that the kernel gives to connections which name none. ``local``
    and ``reserved`` are net.ipv4.ip_local_port_range and ip_local_reserved_ports, which hold for both families.
    ``udp`` and ``tcp`` are sockets that are bound, or listen.
    """

    carried: frozenset[Address] = frozenset()
    preferred: frozenset[Address] = frozenset()
    local: PortRange | None = None
    reserved: tuple[PortRange, ...] = ()
    udp: frozenset[Endpoint] = frozenset()
    tcp: frozenset[Endpoint] = frozenset()


def port_ranges(text: str) -> tuple[PortRange, ...]:
    """Read ip_local_reserved_ports (``8080,9000-9100``), or ip_local_port_range (``32768<tab>60999``)."""
    words = text.replace("\t", "-").split(",") if text.strip() else []
    found = []
    for word in words:
        first, _, last = word.strip().partition("-")
        found.append(PortRange(int(first), int(last or first)))
    return tuple(found)


def source_findings(gateway: Gateway, own: OwnSockets | None) -> Iterator[str]:
    """A line for each thing that a source shares with the gateway's own programs."""
    if own is None:
        return
    for service in gateway.services:
        if service.sources is None:
            continue
        for address in service.sources.addresses:
            label = f"service {service.name}, source {address}"
            if address not in own.carried:
                yield (
                    f"{label}: no interface carries {address}; add it, or see that the nodes' link routes it to this "
                    "machine"
                )
            if service.forward is not Forward.FULL_NAT:
                continue  # a tunnel has no ports of its own to hand out
            yield from _shared_ports(label, address, service.sources.ports, own)
            yield from _sockets(label, address, service, service.sources, own)


def _shared_ports(label: str, address: Address, ports: PortRange, own: OwnSockets) -> Iterator[str]:
    """Programs that name no address get the preferred one, with a port of the local range."""
    if address not in own.preferred or own.local is None:
        return
    first, last = max(ports.first, own.local.first), min(ports.last, own.local.last)
    if first > last or _covered(first, last, own.reserved):
        return
    # An IPv6 address of its own is the longest match, so the kernel takes it before the interface's others.
    alone = " (added with preferred_lft 0)" if address.version == 6 else ""
    yield (
        f"{label}: the gateway's own connections to nodes come from {address} as well, with ports "
        f"{own.local.first}-{own.local.last}; another address for this alone{alone}, or "
        f"`sysctl net.ipv4.ip_local_reserved_ports={first}-{last}`"
    )


def _covered(first: int, last: int, reserved: Iterable[PortRange]) -> bool:
    for one in sorted(reserved, key=lambda one: one.first):
        if one.first <= first <= one.last:
            first = one.last + 1
    return first > last


def _sockets(
    label: str, address: Address, service: Service, sources: Sources, own: OwnSockets
) -> Iterator[str]:
    ends = own.tcp if service.protocol is Protocol.TCP else own.udp
    used = sorted(
        end.port
        for end in ends
        # A socket bound to :: may take IPv4 as well.
        if (
            end.address == address
            or (end.address.is_unspecified and end.address.version in (6, address.version))
        )
        and sources.ports.first <= end.port <= sources.ports.last
    )
    if used:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        yield (
            f"{label}: a program on this machine is bound to port {used[0]}{more}, which is in source_ports; "
            "leave it out of them, or stop the program"
        )
