"""Names of chains, sets and maps, made to be read in ``nft list table inet pointsman``.

All of a service's names start with ``SERVICE/``, which no nft keyword does, and a guard's with ``guard_NAME/``, which
no service's name does.
"""

from __future__ import annotations

from pointsman.model import Endpoint, Family, Guard, Protocol, Service

UDP, TCP = "udp", "tcp"
TRANSPORTS = (UDP, TCP)


def transport_of(service: Service) -> str:
    return TCP if service.protocol is Protocol.TCP else UDP


def wire_tag(family: Family, transport: str) -> str:
    """What names end in that are kept for each family and transport: ``4``, ``4-tcp``."""
    return str(family.value) if transport == UDP else f"{family.value}-{transport}"


def listener_name(service: Service, endpoint: Endpoint) -> str:
    """``coaps/192.0.2.10-5684``; nft takes no colons in names."""
    return f"{service.name}/{str(endpoint.address).replace(':', '_')}-{endpoint.port}"


def family_name(service: Service, family: Family) -> str:
    return f"{service.name}/ip{family.value}"


def verdict_set(verdict: str, family: Family, transport: str = UDP) -> str:
    return f"verdict{wire_tag(family, transport)}/{verdict}"


def filter_name(service: Service) -> str:
    return f"{service.name}/filter"


def guard_name(guard: Guard) -> str:
    return f"guard_{guard.name}"


def node_verdict_set(listener: str, verdict: str) -> str:
    """Counts where the label is in the port, by the listener's own name."""
    return f"{listener}/{verdict}"


def roomy(count: int) -> int:
    """A size that a few more nodes do not outgrow: a map of fixed size is the kernel's fastest."""
    return max(64, 1 << (2 * count - 1).bit_length())
