"""Addresses with a port, of either family."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


class Family(IntEnum):
    """An IP version; the value is the version number."""

    V4 = 4
    V6 = 6


def family_of(address: Address) -> Family:
    """The address's family; asked a million times for a thousand services, hence no look-up by number."""
    return Family.V4 if isinstance(address, IPv4Address) else Family.V6


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One UDP address and port."""

    address: Address
    port: int

    @property
    def family(self) -> Family:
        return family_of(self.address)

    def __str__(self) -> str:
        if self.address.version == 6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"
