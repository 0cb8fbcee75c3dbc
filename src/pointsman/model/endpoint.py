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


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One UDP address and port."""

    address: Address
    port: int

    @property
    def family(self) -> Family:
        return Family(self.address.version)

    def __str__(self) -> str:
        if self.address.version == 6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"
