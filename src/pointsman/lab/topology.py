"""What a lab consists of: machines, the segments they are plugged into, addresses and routes.

    dev1 --home1-- nat1 --+                                 +-- n1
    dev2 --home2-- nat2 --+--wan-- wan0 [gw] lan0 --lan-----+-- n2
           client --------+                                 +-- n3

Every segment is a bridge in the namespace ``sw``. Roles of the addresses:

| prefix                                   | role                                                            |
|------------------------------------------|-----------------------------------------------------------------|
| 192.168.K.0/24, fd00:192:168:K::/64      | home K: the devices behind NAT K                                |
| 198.51.100.0/24, 2001:db8:1::/64         | the wan segment: gateway .1, NATs from .11, client .100,        |
|                                          | and nodes from .201 where they answer clients by themselves     |
| 198.18.0.0/16 (2001:db8:1::18:N)         | on the wan segment too, for the NAT addresses that overflow it  |
| 198.19.0.0/16, 2001:db8:19::/64          | routed to the client, every address local there: bind any       |
| 192.0.2.0/24, 2001:db8::/64              | VIPs that the wan side routes to the gateway                    |
| 203.0.113.0/24, 2001:db8:3::/64          | VIPs on-link at the wan segment: the gateway's wan0 answers ARP |
| 10.0.0.0/24, fd00::/64                   | the lan segment: gateway .1, nodes from .11, a router .254      |
| 172.31.255.1, fd00:ffff::1               | that router, where nodes are behind one: on the segment far     |

IPv6 addresses carry the IPv4 ones' decimal numbers, so that 10.0.0.11 and fd00::11 are seen to be one node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from types import MappingProxyType
from typing import Final

from pointsman.lab.errors import LabError
from pointsman.lab.machines import Interface, InterfaceAddress, Machine, Route, interface_addresses, mac
from pointsman.lab.uplinks import World, machines
from pointsman.model.endpoint import Address, Family

VIP: Final[Mapping[int, str]] = MappingProxyType({4: "192.0.2.10", 6: "2001:db8::10"})
ONLINK_VIP: Final[Mapping[int, str]] = MappingProxyType({4: "203.0.113.10", 6: "2001:db8:3::10"})
"""VIPs for a listener that names ``interface = "wan0"``; the routed ones work there as well."""

GATEWAY_WAN: Final = ("198.51.100.1/24", "2001:db8:1::1/64")
CLIENT: Final = ("198.51.100.100/24", "2001:db8:1::100/64")
CLIENT_POOL: Final = ("198.19.0.0/16", "2001:db8:19::/64")
ONLINK: Final = ("198.51.100.0/24", "198.18.0.0/16", "203.0.113.0/24", "2001:db8:3::/64")

DIRECT_NODES: Final = 50
"""Nodes with a second link have 198.51.100.201 and on."""

ROUTER: Final = ("10.0.0.254/24", "fd00::254/64")
FAR_ROUTER: Final = ("172.31.255.1/32", "fd00:ffff::1/128")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_WAN_NAT_ADDRESSES: Final = 88  # 198.51.100.11 to .98; the client has .100


@dataclass(frozen=True, slots=True)
class Topology:
    """A lab to be: how many of what. ``offload=False`` makes every machine send finished checksums.

    ``node_addresses`` are the nodes' own, an address of each family at most, in place of the lan segment's.
    With ``direct`` nodes have a second link, eth1 on the wan segment, by which their answers reach clients.
    With ``router`` nodes are behind the router r1, on the segment far. ``worlds`` are the uplinks of a multihomed
    server: there is nothing then but the machine gw and a client beyond each of them.
    """

    name: str
    nodes: int = 3
    nats: int = 2
    devices_per_nat: int = 1
    addresses_per_nat: int = 4
    offload: bool = True
    node_addresses: tuple[tuple[str, ...], ...] = ()
    direct: bool = False
    router: bool = False
    worlds: tuple[World, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        for what, least, most in (
            ("nodes", 1, 4000),
            ("nats", 0, 250),
            ("devices_per_nat", 1, 200),
            ("addresses_per_nat", 1, 250),
        ):
            if not least <= (value := getattr(self, what)) <= most:
                raise LabError(f"lab {self.name}: {what} = {value} is out of range {least}..{most}")
        if self.direct and self.nodes > DIRECT_NODES:
            raise LabError(
                f"lab {self.name}: {self.nodes} nodes with links of their own: at most {DIRECT_NODES}"
            )
        if self.router and (not self.node_addresses or any(self._neighbours())):
            raise LabError(f"lab {self.name}: nodes behind a router have no address on the lan segment")
        if self.nats * self.addresses_per_nat > 9999:
            raise LabError(
                f"lab {self.name}: {self.nats} NATs times {self.addresses_per_nat} addresses: at most 9999"
            )

    @property
    def segments(self) -> tuple[str, ...]:
        if self.worlds:
            return tuple(world.interface for world in self.worlds)
        far = ("far",) if self.router else ()
        return ("wan", "lan", *far, *(f"home{k}" for k in range(1, self.nats + 1)))

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All machines but the switch, in a fixed order."""
        return tuple(_by_name(self).values())

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(
            namespace(self.name, each) for each in ("sw", *(machine.name for machine in self.machines))
        )

    def machine(self, name: str) -> Machine:
        if found := _by_name(self).get(name):
            return found
        raise LabError(f"lab {self.name} has no {name}; it has {', '.join(m.name for m in self.machines)}")

    def address(self, machine: str, family: int, interface: str | None = None) -> str:
        """The machine's first address of a family (4 or 6), on its first interface unless one is named."""
        of = self.machine(machine)
        plug = of.interface(interface) if interface else of.interfaces[0]
        return next(str(own.ip) for own in plug.addresses if own.version == family)

    def external(self, nat: int, family: int) -> tuple[str, ...]:
        """All addresses of NAT ``nat`` on the wan segment."""
        own = self.machine(f"nat{nat}").interface("wan0").addresses
        return tuple(str(address.ip) for address in own if address.version == family)

    def nat_of(self, device: int) -> int:
        return (device - 1) // self.devices_per_nat + 1

    def build(self) -> tuple[Machine, ...]:
        """Describe all machines anew; ``machines`` remembers them."""
        if self.worlds:
            return machines(self.worlds)
        return (
            self._gateway(),
            _client(),
            *((self._router(),) if self.router else ()),
            *(self._node(i) for i in range(1, self.nodes + 1)),
            *(self._nat(k) for k in range(1, self.nats + 1)),
            *(self._device(d) for d in range(1, self.nats * self.devices_per_nat + 1)),
        )

    def _lan(self, number: int) -> tuple[InterfaceAddress, ...]:
        length = 24 if self.nodes <= 240 else 16
        v4 = IPv4Address("10.0.0.0") + number
        return interface_addresses(f"{v4}/{length}", f"fd00::{number}/64")

    def _gateway(self) -> Machine:
        client4, client6 = (ip_interface(address).ip for address in CLIENT)
        pool4, pool6 = (ip_network(prefix) for prefix in CLIENT_POOL)
        return Machine(
            "gw",
            (
                Interface("wan0", "wan", mac("gw", 0, 0), interface_addresses(*GATEWAY_WAN)),
                Interface("lan0", "lan", mac("gw", 0, 1), self._lan(1)),
            ),
            (
                Route(Family.V4, ip_network("198.18.0.0/16"), "wan0"),
                Route(Family.V4, pool4, "wan0", client4),
                Route(Family.V6, pool6, "wan0", client6),
                *self._beyond("lan0", interface_addresses(*ROUTER) if self.router else ()),
            ),
        )

    def _beyond(self, device: str, routers: tuple[InterfaceAddress, ...] = ()) -> tuple[Route, ...]:
        """Routes to the nodes' addresses that are not on the lan segment."""
        via = {router.version: router.ip for router in routers}
        return tuple(
            Route(Family(own.version), ip_network(own), device, via.get(own.version))
            for number in range(1, self.nodes + 1)
            for own in self._strangers(number)
        )

    def _router(self) -> Machine:
        plugs = (
            Interface("lan0", "lan", mac("r", 1, 0), interface_addresses(*ROUTER)),
            Interface("far0", "far", mac("r", 1, 1), interface_addresses(*FAR_ROUTER)),
        )
        return Machine("r1", plugs, (*self._beyond("far0"), *_default("lan0", *self._lan(1))), router=True)

    def _strangers(self, number: int) -> tuple[Address, ...]:
        """Addresses of the node that are not on the lan segment's prefixes."""
        if not self.node_addresses:
            return ()
        own = tuple(ip_address(text) for text in self.node_addresses[number - 1])
        return tuple(each for each in own if not any(each in lan.network for lan in self._lan(1)))

    def _neighbours(self) -> list[str]:
        """The nodes' addresses that are on the lan segment's prefixes."""
        strangers = {str(each) for number in range(1, self.nodes + 1) for each in self._strangers(number)}
        return [text for own in self.node_addresses for text in own if text not in strangers]

    def _node(self, number: int) -> Machine:
        gateway = interface_addresses(*FAR_ROUTER) if self.router else self._lan(1)
        outside = self._uplink(number)
        if not self.node_addresses:
            plug = Interface("eth0", "lan", mac("n", number, 0), self._lan(10 + number))
            return Machine(f"n{number}", (plug, *outside[0]), (*outside[1], *_default("eth0", *gateway)))
        strangers = self._strangers(number)
        lengths = {lan.version: lan.network.prefixlen for lan in self._lan(1)}
        own = tuple(
            ip_interface(address if address in strangers else f"{address}/{lengths[address.version]}")
            for address in map(ip_address, self.node_addresses[number - 1])
        )
        via = tuple(each for each in gateway if each.version in {address.version for address in own})
        onlink = tuple(
            Route(Family(each.version), ip_network(each.ip), "eth0")
            for each in via
            if each.version in {address.version for address in strangers}
        )
        plug = Interface("eth0", "far" if self.router else "lan", mac("n", number, 0), own)
        return Machine(f"n{number}", (plug, *outside[0]), (*onlink, *outside[1], *_default("eth0", *via)))

    def _uplink(self, number: int) -> tuple[tuple[Interface, ...], tuple[Route, ...]]:
        """A node's second link, and the routes by it, where nodes answer by themselves."""
        if not self.direct:
            return (), ()
        outside = interface_addresses(f"198.51.100.{200 + number}/24", f"2001:db8:1::{200 + number}/64")
        clients = (ip_interface(address).ip for address in CLIENT)
        pool = tuple(
            Route(Family(prefix.version), prefix, "eth1", client)
            for prefix, client in zip(map(ip_network, CLIENT_POOL), clients, strict=True)
        )
        plug = Interface("eth1", "wan", mac("n", number, 1), outside)
        return (plug,), (*_onlink("eth1", outside), *pool)

    def _nat(self, number: int) -> Machine:
        first = (number - 1) * self.addresses_per_nat + 1
        outside = tuple(
            address
            for n in range(first, first + self.addresses_per_nat)
            for address in (
                interface_addresses(f"198.51.100.{10 + n}/24", f"2001:db8:1::{10 + n}/64")
                if n <= _WAN_NAT_ADDRESSES
                else interface_addresses(f"{IPv4Address('198.18.0.0') + n}/16", f"2001:db8:1::18:{n}/64")
            )
        )
        return Machine(
            f"nat{number}",
            (
                Interface("wan0", "wan", mac("nat", number, 0), outside),
                Interface("in0", f"home{number}", mac("nat", number, 1), _home(number, 1)),
            ),
            (*_onlink("wan0", outside), *_default("wan0", *interface_addresses(*GATEWAY_WAN))),
            nat=True,
        )

    def _device(self, number: int) -> Machine:
        nat = self.nat_of(number)
        within = (number - 1) % self.devices_per_nat + 1
        plug = Interface("eth0", f"home{nat}", mac("dev", number, 0), _home(nat, 10 + within))
        return Machine(f"dev{number}", (plug,), _default("eth0", *_home(nat, 1)))


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise LabError(
            f"lab name {name!r}: up to 31 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
        )
    return name


def namespace(lab: str, machine: str) -> str:
    return f"pm-{lab}-{machine}"


def parse_namespace(text: str) -> tuple[str, str] | None:
    """The lab and the machine that a namespace belongs to; None if it is nobody's here.

    A machine's name has no dash, so lab ``a`` never claims the namespaces of lab ``a-b``.
    """
    found = re.fullmatch(r"pm-(.+)-(gw|sw|client\d*|r\d+|n\d+|nat\d+|dev\d+)", text)
    return (found[1], found[2]) if found and _NAME.fullmatch(found[1]) else None


@lru_cache(maxsize=8)
def _by_name(topology: Topology) -> dict[str, Machine]:
    return {machine.name: machine for machine in topology.build()}


def _client() -> Machine:
    pool = tuple(
        Route(Family(prefix.version), prefix, "lo", local=True)
        for prefix in (ip_network(text) for text in CLIENT_POOL)
    )
    plug = Interface("eth0", "wan", mac("client", 0, 0), interface_addresses(*CLIENT))
    gateway = _default("eth0", *interface_addresses(*GATEWAY_WAN))
    return Machine("client", (plug,), (*_onlink("eth0", plug.addresses), *pool, *gateway))


def _home(nat: int, number: int) -> tuple[InterfaceAddress, ...]:
    return interface_addresses(f"192.168.{nat}.{number}/24", f"fd00:192:168:{nat}::{number}/64")


def _default(device: str, *gateways: InterfaceAddress) -> tuple[Route, ...]:
    return tuple(Route(Family(each.version), None, device, each.ip) for each in gateways)


def _onlink(device: str, own: tuple[InterfaceAddress, ...]) -> tuple[Route, ...]:
    """The wan segment's prefixes that ``own`` does not make on-link already."""
    connected = {address.network for address in own}
    prefixes = (ip_network(text) for text in ONLINK)
    return tuple(
        Route(Family(prefix.version), prefix, device) for prefix in prefixes if prefix not in connected
    )
