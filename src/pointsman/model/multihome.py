"""A UDP server on this machine that answers by the uplink, and from the address, that it was asked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pointsman.model.endpoint import Address, Family, family_of
from pointsman.model.filter import PortRange, Prefix


class MultihomeMode(StrEnum):
    """By what the server is told from others: the address that it is bound to, or its control group."""

    ADDRESS = "address"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Uplink:
    """``addresses`` empty: those that are found on the interface; ``gateways``, likewise, its default routes'."""

    interface: str
    addresses: tuple[Prefix, ...] = ()
    gateways: tuple[Address, ...] = ()

    def gateway(self, family: Family) -> Address | None:
        return next((own for own in self.gateways if family_of(own) is family), None)


@dataclass(frozen=True, slots=True)
class Multihome:
    """``addresses`` and ``mark_mask`` are for the mode "address", ``cgroup`` (below cgroup2's root) for "socket"."""

    name: str
    mode: MultihomeMode
    ports: tuple[PortRange, ...]
    uplinks: tuple[Uplink, ...]
    addresses: tuple[Address, ...] = ()
    mark_mask: int = 0x00FF0000
    cgroup: str = ""

    def address(self, family: Family) -> Address | None:
        return next((own for own in self.addresses if family_of(own) is family), None)
