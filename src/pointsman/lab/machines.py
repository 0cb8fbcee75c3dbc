"""One machine of a lab: its interfaces, their addresses and its routes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from typing import Final

from pointsman.lab.errors import LabError
from pointsman.model.endpoint import Address, Family

InterfaceAddress = IPv4Interface | IPv6Interface
Prefix = IPv4Network | IPv6Network

_MAC_ROLES: Final = {"gw": 1, "n": 2, "nat": 3, "dev": 4, "client": 5, "r": 6}


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    segment: str
    mac: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """``prefix`` None is the default route; ``local`` makes every address of the prefix the machine's own.

    ``source`` is what the machine's own packets come from there.
    """

    family: Family
    prefix: Prefix | None
    device: str
    via: Address | None = None
    local: bool = False
    source: Address | None = None
    metric: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """One namespace. NATs and routers forward from the start; the gateway does once ``pointsman apply`` says so."""

    name: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    nat: bool = False
    router: bool = False

    def interface(self, name: str) -> Interface:
        for own in self.interfaces:
            if own.name == name:
                return own
        raise LabError(
            f"{self.name} has no interface {name}; it has {', '.join(i.name for i in self.interfaces)}"
        )


def interface_addresses(*texts: str) -> tuple[InterfaceAddress, ...]:
    return tuple(ip_interface(text) for text in texts)


def mac(role: str, number: int, plug: int) -> str:
    """The MAC address of an interface, by the machine's role and number."""
    return f"02:00:{_MAC_ROLES[role]:02x}:{number >> 8:02x}:{number & 255:02x}:{plug:02x}"
