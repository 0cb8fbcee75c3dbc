"""A lab for a multihomed server: the machine gw, and beyond each of its uplinks a client.

    gw uplink 1 ---- client1    router of that uplink, and a client behind it: 198.19.1.7, 2001:db8:19:1::7
    gw uplink 2 ---- client2    198.19.2.7, 2001:db8:19:2::7

Every uplink has a default route, the first one's is preferred. What leaves by the wrong uplink ends there: its
router does not forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from pointsman.lab.machines import Interface, Machine, Route, interface_addresses, mac
from pointsman.model.endpoint import Family

_METRIC = 100


@dataclass(frozen=True, slots=True)
class World:
    """An uplink: the addresses that gw has on it, with their prefixes' lengths, and its routers."""

    interface: str
    own: tuple[str, ...]
    routers: tuple[str, ...]


def machines(worlds: tuple[World, ...]) -> tuple[Machine, ...]:
    """The server's machine and the clients', in the order of the uplinks."""
    return (_server(worlds), *(_client(world, number) for number, world in enumerate(worlds, 1)))


def _server(worlds: tuple[World, ...]) -> Machine:
    plugs = tuple(
        Interface(world.interface, world.interface, mac("gw", 0, index), interface_addresses(*world.own))
        for index, world in enumerate(worlds)
    )
    routes = tuple(
        Route(Family(via.version), None, world.interface, via, metric=_METRIC * number)
        for number, world in enumerate(worlds, 1)
        for via in map(ip_address, world.routers)
    )
    return Machine("gw", plugs, routes)


def _client(world: World, number: int) -> Machine:
    own = interface_addresses(f"198.19.{number}.7/32", f"2001:db8:19:{number}::7/128")
    routers = (
        f"{address}/{64 if address.is_link_local else address.max_prefixlen}"
        for address in map(ip_address, world.routers)
    )
    plug = Interface(
        "eth0", world.interface, mac("client", number, 0), (*own, *interface_addresses(*routers))
    )
    sources = {each.version: each.ip for each in own}
    routes = tuple(
        Route(Family(there.version), there.network, "eth0", source=sources[there.version])
        for there in map(ip_interface, world.own)
    )
    return Machine(f"client{number}", (plug,), routes)
