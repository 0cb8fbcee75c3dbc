"""What cannot be with full-nat's sources, whatever the machine around is."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.model import Forward, Gateway, Service
from pointsman.model.abilities import XDP

MOST_SOURCES = 8
"""Addresses of one family; mirrors MOST_SOURCES of bpf/full_nat.h."""

MOST_TRANSLATIONS = 1 << 25
BYTES = 48
"""Of kernel memory for each port of each source towards each node endpoint, allocated ahead (xdp)."""


def impossible(gateway: Gateway, plane: str) -> Iterator[str]:
    """Lines about what keeps a gateway with full-nat services from being applied."""
    if plane != XDP:
        return
    for service in _services(gateway):
        yield from _too_many(service)
    count = translations(gateway)
    if count > MOST_TRANSLATIONS:
        yield (
            f"full-nat: {count:,} source ports towards nodes would take {count * BYTES >> 20:,} MiB on xdp; "
            f"at most {MOST_TRANSLATIONS:,} ({MOST_TRANSLATIONS * BYTES >> 20:,} MiB): narrow source_ports, or "
            "take fewer sources"
        )


def _services(gateway: Gateway) -> Iterator[Service]:
    return (service for service in gateway.services if service.forward is Forward.FULL_NAT)


def _too_many(service: Service) -> Iterator[str]:
    if service.sources is None:
        return
    for family in sorted({listener.family for listener in service.listeners}):
        count = len(service.sources.of(family))
        if count > MOST_SOURCES:
            yield f"service {service.name}: {count} IPv{family} sources; at most {MOST_SOURCES} on xdp"


def translations(gateway: Gateway) -> int:
    """Ports towards node endpoints, each counted once for each source."""
    ranges: dict[tuple[object, ...], tuple[int, int]] = {}
    for service in _services(gateway):
        if service.sources is None:
            continue
        own = service.sources.ports
        for listener in service.listeners:
            for node in service.nodes:
                for source in service.sources.of(listener.family):
                    key = (service.protocol, node.endpoint(listener), source)
                    first, last = ranges.get(key, (own.first, own.last))
                    ranges[key] = min(first, own.first), max(last, own.last)
    return sum(last - first + 1 for first, last in ranges.values())
