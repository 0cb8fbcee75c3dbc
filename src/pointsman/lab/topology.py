"""What a lab consists of: machines, the segments they are plugged into, addresses and routes.

    dev1 --home1-- nat1 --+                                 +-- n1
    dev2 --home2-- nat2 --+--wan-- wan0 [gw] lan0 --lan-----+-- n2
           client --------+                                 +-- n3

Every segment is a bridge in the namespace ``sw``. Roles of the addresses:

| prefix                                   | role                                                            |
|------------------------------------------|-----------------------------------------------------------------|
| 192.168.K.0/24, fd00:192:168:K::/64      | home K: the devices behind NAT K                                |
| 198.51.100.0/24, 2001:db8:1::/64         | the wan segment: gateway .1, NATs from .11, client .100         |
| 198.18.0.0/16 (2001:db8:1::18:N)         | on the wan segment too, for the NAT addresses that overflow it  |
| 198.19.0.0/16, 2001:db8:19::/64          | routed to the client, every address local there: bind any       |
| 192.0.2.0/24, 2001:db8::/64              | VIPs that the wan side routes to the gateway                    |
| 203.0.113.0/24, 2001:db8:3::/64          | VIPs on-link at the wan segment: the gateway's wan0 answers ARP |
| 10.0.0.0/24, fd00::/64                   | the lan segment: gateway .1, nodes from .11                     |

IPv6 addresses carry the IPv4 ones' decimal numbers, so that 10.0.0.11 and fd00::11 are seen to be one node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from types import MappingProxyType
from typing import Final

from pointsman.lab.errors import LabError
from pointsman.model.endpoint import Address, Family

InterfaceAddress = IPv4Interface | IPv6Interface
Prefix = IPv4Network | IPv6Network

VIP: Final[Mapping[int, str]] = MappingProxyType({4: "192.0.2.10", 6: "2001:db8::10"})
ONLINK_VIP: Final[Mapping[int, str]] = MappingProxyType({4: "203.0.113.10", 6: "2001:db8:3::10"})
"""VIPs for a listener that names ``interface = "wan0"``; the routed ones work there as well."""

GATEWAY_WAN: Final = ("198.51.100.1/24", "2001:db8:1::1/64")
CLIENT: Final = ("198.51.100.100/24", "2001:db8:1::100/64")
CLIENT_POOL: Final = ("198.19.0.0/16", "2001:db8:19::/64")
ONLINK: Final = ("198.51.100.0/24", "198.18.0.0/16", "203.0.113.0/24", "2001:db8:3::/64")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_MAC_ROLES: Final = {"gw": 1, "n": 2, "nat": 3, "dev": 4, "client": 5}
_WAN_NAT_ADDRESSES: Final = 88  # 198.51.100.11 to .98; the client has .100


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    segment: str
    mac: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """``prefix`` None is the default route; ``local`` makes every address of the prefix the machine's own."""

    family: Family
    prefix: Prefix | None
    device: str
    via: Address | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """One namespace. A NAT forwards from the start; the gateway does once ``pointsman apply`` says so."""

    name: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    nat: bool = False

    def interface(self, name: str) -> Interface:
        for own in self.interfaces:
            if own.name == name:
                return own
        raise LabError(
            f"{self.name} has no interface {name}; it has {', '.join(i.name for i in self.interfaces)}"
        )


@dataclass(frozen=True, slots=True)
class Topology:
    """A lab to be: how many of what. ``offload=False`` makes every machine send finished checksums."""

    name: str
    nodes: int = 3
    nats: int = 2
    devices_per_nat: int = 1
    addresses_per_nat: int = 4
    offload: bool = True

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
        if self.nats * self.addresses_per_nat > 9999:
            raise LabError(
                f"lab {self.name}: {self.nats} NATs times {self.addresses_per_nat} addresses: at most 9999"
            )

    @property
    def segments(self) -> tuple[str, ...]:
        return ("wan", "lan", *(f"home{k}" for k in range(1, self.nats + 1)))

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
        return (
            self._gateway(),
            _client(),
            *(self._node(i) for i in range(1, self.nodes + 1)),
            *(self._nat(k) for k in range(1, self.nats + 1)),
            *(self._device(d) for d in range(1, self.nats * self.devices_per_nat + 1)),
        )

    def _lan(self, number: int) -> tuple[InterfaceAddress, ...]:
        length = 24 if self.nodes <= 240 else 16
        v4 = IPv4Address("10.0.0.0") + number
        return _addresses(f"{v4}/{length}", f"fd00::{number}/64")

    def _gateway(self) -> Machine:
        client4, client6 = (ip_interface(address).ip for address in CLIENT)
        pool4, pool6 = (ip_network(prefix) for prefix in CLIENT_POOL)
        return Machine(
            "gw",
            (
                Interface("wan0", "wan", _mac("gw", 0, 0), _addresses(*GATEWAY_WAN)),
                Interface("lan0", "lan", _mac("gw", 0, 1), self._lan(1)),
            ),
            (
                Route(Family.V4, ip_network("198.18.0.0/16"), "wan0"),
                Route(Family.V4, pool4, "wan0", client4),
                Route(Family.V6, pool6, "wan0", client6),
            ),
        )

    def _node(self, number: int) -> Machine:
        plug = Interface("eth0", "lan", _mac("n", number, 0), self._lan(10 + number))
        return Machine(f"n{number}", (plug,), _default("eth0", *self._lan(1)))

    def _nat(self, number: int) -> Machine:
        first = (number - 1) * self.addresses_per_nat + 1
        outside = tuple(
            address
            for n in range(first, first + self.addresses_per_nat)
            for address in (
                _addresses(f"198.51.100.{10 + n}/24", f"2001:db8:1::{10 + n}/64")
                if n <= _WAN_NAT_ADDRESSES
                else _addresses(f"{IPv4Address('198.18.0.0') + n}/16", f"2001:db8:1::18:{n}/64")
            )
        )
        return Machine(
            f"nat{number}",
            (
                Interface("wan0", "wan", _mac("nat", number, 0), outside),
                Interface("in0", f"home{number}", _mac("nat", number, 1), _home(number, 1)),
            ),
            (*_onlink("wan0", outside), *_default("wan0", *_addresses(*GATEWAY_WAN))),
            nat=True,
        )

    def _device(self, number: int) -> Machine:
        nat = self.nat_of(number)
        within = (number - 1) % self.devices_per_nat + 1
        plug = Interface("eth0", f"home{nat}", _mac("dev", number, 0), _home(nat, 10 + within))
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
    found = re.fullmatch(r"pm-(.+)-(gw|sw|client|n\d+|nat\d+|dev\d+)", text)
    return (found[1], found[2]) if found and _NAME.fullmatch(found[1]) else None


@lru_cache(maxsize=8)
def _by_name(topology: Topology) -> dict[str, Machine]:
    return {machine.name: machine for machine in topology.build()}


def _client() -> Machine:
    pool = tuple(
        Route(Family(prefix.version), prefix, "lo", local=True)
        for prefix in (ip_network(text) for text in CLIENT_POOL)
    )
    plug = Interface("eth0", "wan", _mac("client", 0, 0), _addresses(*CLIENT))
    gateway = _default("eth0", *_addresses(*GATEWAY_WAN))
    return Machine("client", (plug,), (*_onlink("eth0", plug.addresses), *pool, *gateway))


def _home(nat: int, number: int) -> tuple[InterfaceAddress, ...]:
    return _addresses(f"192.168.{nat}.{number}/24", f"fd00:192:168:{nat}::{number}/64")


def _addresses(*texts: str) -> tuple[InterfaceAddress, ...]:
    return tuple(ip_interface(text) for text in texts)


def _default(device: str, *gateways: InterfaceAddress) -> tuple[Route, ...]:
    return tuple(Route(Family(each.version), None, device, each.ip) for each in gateways)


def _onlink(device: str, own: tuple[InterfaceAddress, ...]) -> tuple[Route, ...]:
    """The wan segment's prefixes that ``own`` does not make on-link already."""
    connected = {address.network for address in own}
    prefixes = (ip_network(text) for text in ONLINK)
    return tuple(
        Route(Family(prefix.version), prefix, device) for prefix in prefixes if prefix not in connected
    )


def _mac(role: str, number: int, plug: int) -> str:
    return f"02:00:{_MAC_ROLES[role]:02x}:{number >> 8:02x}:{number & 255:02x}:{plug:02x}"
