"""What the gateway forwards beside the services' packets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pointsman.model.filter import PortRange, Prefix


class AllowedProtocol(StrEnum):
    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


@dataclass(frozen=True, slots=True)
class Allow:
    """Connections that may be opened; whatever is empty is any.

    ``ports`` are those that are connected to. ``both_ways``: they may be opened from the other end as well.
    """

    sources: tuple[Prefix, ...] = ()
    destinations: tuple[Prefix, ...] = ()
    protocol: AllowedProtocol = AllowedProtocol.ANY
    ports: tuple[PortRange, ...] = ()
    incoming: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    both_ways: bool = False


@dataclass(frozen=True, slots=True)
class Forwarding:
    """The policy "drop": what arrives at or leaves by one of ``interfaces`` is the services', allowed, or dropped."""

    interfaces: tuple[str, ...]
    allowed: tuple[Allow, ...] = ()
