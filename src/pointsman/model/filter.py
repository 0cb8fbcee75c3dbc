"""What a filter lets pass: for a service's DTLS, or before a server on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

Prefix = IPv4Network | IPv6Network


class FilterLevel(StrEnum):
    """How far into a datagram the filter looks."""

    HEADER = "header"
    RECORD = "record"


class FilterMode(StrEnum):
    """What becomes of a packet that the filter has a reason against; it is counted in either mode."""

    MONITOR = "monitor"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class Budgets:
    """Packets a second that token buckets let pass, 0 for any number; each holds ``burst`` seconds' worth.

    Prefixes are of the source, of the lengths that the filter says.
    """

    per_prefix: int = 0
    total: int = 0
    per_node: int = 0
    burst: int = 2


@dataclass(frozen=True, slots=True)
class Filter:
    """``source_ports`` are dropped. ``allow`` are exempt from all but DTLS's own form, ``deny`` never pass.

    ``hello`` counts ClientHellos, one with a cookie a quarter; ``cid`` counts records with connection IDs.
    ``amplification``: how many times the bytes that an address sent may be answered until it has shown that it
    receives the answers, 0 for any number.
    """

    level: FilterLevel = FilterLevel.HEADER
    mode: FilterMode = FilterMode.ENFORCE
    dtls13: bool = False
    source_ports: tuple[int, ...] = ()
    allow: tuple[Prefix, ...] = ()
    deny: tuple[Prefix, ...] = ()
    prefix4: int = 24
    prefix6: int = 56
    hello: Budgets = Budgets()
    cid: Budgets = Budgets()
    amplification: int = 0


@dataclass(frozen=True, slots=True)
class PortRange:
    """``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Guard:
    """The filter before a DTLS server that runs on this machine itself, for what arrives at some interfaces."""

    name: str
    interfaces: tuple[str, ...]
    ports: tuple[PortRange, ...]
    filter: Filter

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        word = "port" if len(self.ports) == 1 and self.ports[0].first == self.ports[0].last else "ports"
        return f"{word} {', '.join(map(str, self.ports))} on {', '.join(self.interfaces)}"
