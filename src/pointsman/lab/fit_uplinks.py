"""Uplinks for a lab's multihomed server: as its file names them, and made up where the file leaves them open."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from pointsman.lab.errors import LabError
from pointsman.lab.machines import InterfaceAddress
from pointsman.lab.uplinks import World
from pointsman.model import Address, Family, Gateway, Multihome, Uplink

_LONGEST = 12
"""Characters of an interface's name: the switch's end of its cable has "gw-" before it, and may have 15."""


def worlds(gateway: Gateway) -> tuple[World, ...]:
    """Each interface once, in the order of the file; raise LabError for what no lab can have."""
    if gateway.services or gateway.guards:
        raise LabError("a lab has either multihomed servers or services and guards, and this file has both")
    found: dict[str, World] = {}
    for server in gateway.multihomes:
        for uplink in server.uplinks:
            if uplink.interface not in found:
                found[uplink.interface] = _world(server, uplink, len(found) + 1)
    return tuple(found.values())


def _world(server: Multihome, uplink: Uplink, number: int) -> World:
    where = f"multihome {server.name}, uplink {uplink.interface}"
    if len(uplink.interface) > _LONGEST:
        raise LabError(f"{where}: a lab's interfaces have names of at most {_LONGEST} characters")
    own, routers = [], []
    for family in Family:
        address, router = _ends(uplink, family, number)
        if router not in address.network and not router.is_link_local:
            raise LabError(f"{where}: in a lab the gateway {router} has to be in {address.network}")
        own.append(str(address))
        routers.append(str(router))
    return World(uplink.interface, tuple(own), tuple(routers))


def _ends(uplink: Uplink, family: Family, number: int) -> tuple[InterfaceAddress, Address]:
    """The address that the server's machine has on the uplink, and its router's."""
    length = 24 if family is Family.V4 else 64
    router = uplink.gateway(family)
    prefix = next((each for each in uplink.addresses if each.version == family), None)
    if prefix is not None and prefix.prefixlen == prefix.max_prefixlen:
        address = ip_interface(f"{prefix.network_address}/{length}")
        return address, router or next(each for each in address.network.hosts() if each != address.ip)
    if prefix is not None:
        network = prefix
    elif router is not None and not router.is_link_local:
        network = ip_network(f"{router}/{length}", strict=False)
    else:
        network = ip_network(f"198.18.{number}.0/24" if family is Family.V4 else f"2001:db8:18:{number}::/64")
    first, second = network.network_address + 1, network.network_address + 2
    router = router or first
    return ip_interface(f"{first if router == second else second}/{network.prefixlen}"), router
