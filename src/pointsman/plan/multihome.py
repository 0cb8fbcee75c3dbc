"""Multihomed servers: an nftables table, routes and rules of our own, and programs on control groups, as values.

Each uplink in the file has a number, by which it has a routing table, priorities, a mark and a zone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from typing import TypeAlias

from pointsman.model import Address, Family, Gateway, Multihome, MultihomeMode, PortRange, Prefix, Uplink
from pointsman.plan.port_sets import merged, nft_set, words

NAME = "pointsman-multihome"
TABLE = f"inet {NAME}"
APPLIED = "applied"

FIRST_NUMBER = 7700
"""Of the routing tables, the zones, and the priorities of rules; 200 of them are ours."""
ROUTES_OF_UPLINKS = 100
"""What is added to an uplink's priority for the rule that leads to its table."""
PROTOCOL = "177"
"""The routing protocol that our routes and rules say they are by (rtnetlink(7)): nobody else's number."""
NO_OTHER_WAY = 4_000_000_000
"""The metric of the route that keeps answers from leaving by another uplink."""

InterfaceAddress: TypeAlias = IPv4Interface | IPv6Interface

_IP = {Family.V4: "ip", Family.V6: "ip6"}


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What is found of an uplink: its addresses, and the routers of its default routes."""

    up: bool = True
    addresses: tuple[InterfaceAddress, ...] = ()
    gateways: tuple[Address, ...] = ()


Links = Mapping[str, LinkFacts]


@dataclass(frozen=True, slots=True)
class Route:
    """``destination`` None is the default route; without a device nothing is reached by it."""

    family: Family
    table: int
    destination: Prefix | None = None
    gateway: Address | None = None
    device: str | None = None

    def words(self) -> list[str]:
        """As ``ip route`` takes it."""
        words = [] if self.device else ["unreachable"]
        words.append(str(self.destination) if self.destination else "default")
        if self.gateway:
            # A router need not be in a network that this table knows of.
            words += ["via", str(self.gateway), "onlink"]
        words += ["dev", self.device] if self.device else ["metric", str(NO_OTHER_WAY)]
        return [*words, "table", str(self.table), "proto", PROTOCOL]


@dataclass(frozen=True, slots=True)
class Rule:
    """``selector`` and ``action`` are words of ``ip rule``."""

    family: Family
    priority: int
    selector: tuple[str, ...]
    action: tuple[str, ...]

    def words(self) -> list[str]:
        return [*self.selector, *self.action, "priority", str(self.priority), "protocol", PROTOCOL]


@dataclass(frozen=True, slots=True)
class Attachment:
    """The programs of a server in a control group; ``uplinks`` are interfaces."""

    name: str
    cgroup: str
    ports: tuple[PortRange, ...]
    uplinks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MultihomePlan:
    """``body`` is the nftables table's content, "" where none is needed."""

    body: str = ""
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def stamp(self) -> str:
        return hashlib.blake2b(self.body.encode(), digest_size=12).hexdigest()

    @property
    def table(self) -> str:
        """The transaction that puts the table in place, whatever stood there."""
        stamped = f'\tset {APPLIED} {{\n\t\ttype mark\n\t\telements = {{ 1 comment "{self.stamp}" }}\n\t}}\n'
        return f"add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{stamped}{self.body}}}\n"


@dataclass(frozen=True, slots=True)
class Numbered:
    """An uplink of a server with its number."""

    server: Multihome
    uplink: Uplink
    number: int

    @property
    def table(self) -> int:
        return FIRST_NUMBER + self.number

    @property
    def mark(self) -> int:
        mask = self.server.mark_mask
        return (self.number + 1) << (mask & -mask).bit_length() - 1


def numbered(gateway: Gateway) -> list[Numbered]:
    """Every uplink of the file, in its order."""
    pairs = [(server, uplink) for server in gateway.multihomes for uplink in server.uplinks]
    return [Numbered(server, uplink, number) for number, (server, uplink) in enumerate(pairs)]


def compile_multihome(gateway: Gateway, links: Links) -> MultihomePlan:
    """Say it; ``links`` are the uplinks' interfaces that are there, by name."""
    every = numbered(gateway)
    rules: list[Rule] = []
    for each in every:
        rules += _rules(each, links.get(each.uplink.interface, LinkFacts(up=False)))
    routes = [
        route
        for each in every
        for route in _routes(each, links.get(each.uplink.interface, LinkFacts(up=False)))
    ]
    attachments = tuple(
        Attachment(
            server.name,
            server.cgroup,
            tuple(merged(server.ports)),
            tuple(own.interface for own in server.uplinks),
        )
        for server in gateway.multihomes
        if server.mode is MultihomeMode.SOCKET
    )
    by_mark = [each for each in every if each.server.mode is MultihomeMode.ADDRESS]
    body = "".join(f"{line}\n" for line in _table(by_mark)) if by_mark else ""
    return MultihomePlan(body, tuple(dict.fromkeys(routes)), tuple(dict.fromkeys(rules)), attachments)


# routes and rules


def _routes(each: Numbered, facts: LinkFacts) -> Iterator[Route]:
    """The uplink's own networks, the rest by its router, and nothing by any other uplink."""
    device = each.uplink.interface
    for family in Family:
        if facts.up:
            for own in dict.fromkeys(own.network for own in facts.addresses if own.version == family):
                if own.prefixlen < own.max_prefixlen:
                    yield Route(family, each.table, own, None, device)
            gateway = router(each.uplink, facts, family)
            if gateway is not None:
                yield Route(family, each.table, None, gateway, device)
        yield Route(family, each.table)


def router(uplink: Uplink, facts: LinkFacts, family: Family) -> Address | None:
    """The next router of the uplink: the file's, else that of its default route."""
    found = uplink.gateway(family)
    return found or next((own for own in facts.gateways if own.version == family), None)


def _rules(each: Numbered, facts: LinkFacts) -> Iterator[Rule]:
    to_table = ("lookup", str(each.table))
    priority = FIRST_NUMBER + ROUTES_OF_UPLINKS + each.number
    if each.server.mode is MultihomeMode.ADDRESS:
        for family in Family:
            if each.server.address(family) is not None:
                mark = f"{each.mark:#x}/{each.server.mark_mask:#x}"
                yield Rule(family, priority, ("fwmark", mark), to_table)
        return
    for sport in words(each.server.ports):
        own_ports = ("ipproto", "udp", "sport", sport)
        for prefix in addresses(each.uplink, facts):
            selector = ("from", str(prefix), *own_ports)
            family = Family(prefix.version)
            # Networks that are known to be elsewhere, a LAN, are answered there; the uplink is for all others.
            main = ("lookup", "main", "suppress_prefixlength", "0")
            yield Rule(family, FIRST_NUMBER + each.number, selector, main)
            yield Rule(family, priority, selector, to_table)
        for family in Family:
            yield Rule(family, priority, ("oif", each.uplink.interface, *own_ports), to_table)


def addresses(uplink: Uplink, facts: LinkFacts) -> tuple[Prefix, ...]:
    """What the uplink is asked at: the file's addresses, else those that are found."""
    return uplink.addresses or tuple(dict.fromkeys(ip_network(own.ip) for own in facts.addresses))


# the table


def _table(every: list[Numbered]) -> Iterator[str]:
    # Before connection tracking looks: clients of one address and port behind two uplinks have an entry each.
    yield from _chain(
        "arrive_raw",
        "type filter hook prerouting priority raw; policy accept;",
        (f"{asked} ct original zone set {each.table}" for each in every for asked in _asked(each)),
    )
    yield from _chain(
        "arrive",
        "type nat hook prerouting priority dstnat; policy accept;",
        (rule for each in every for rule in _translated(each)),
    )
    # With a chain here, the kernel gives the second of two such clients another port toward the server.
    yield from _chain("deliver", "type nat hook input priority 100; policy accept;", ())
    yield from _chain(
        "leave",
        "type route hook output priority mangle; policy accept;",
        (
            f"ct direction reply ct mark & {each.server.mark_mask:#010x} == {each.mark:#010x} "
            f"meta mark set meta mark & {_others(each):#010x} | {each.mark:#010x}"
            for each in every
        ),
    )


def _asked(each: Numbered) -> Iterator[str]:
    """What arrives for the server by the uplink, for each family that the server has."""
    for family in Family:
        if each.server.address(family) is None:
            continue
        given = [str(own) for own in each.uplink.addresses if own.version == family]
        if each.uplink.addresses and not given:
            continue
        to = f"{_IP[family]} daddr {{ {', '.join(given)} }} " if given else ""
        arriving = (
            f'iifname "{each.uplink.interface}" meta nfproto ipv{family.value} {to}fib daddr type local'
        )
        yield f"{arriving} udp dport {nft_set(each.server.ports)}"


def _translated(each: Numbered) -> Iterator[str]:
    for asked in _asked(each):
        family = Family.V4 if "nfproto ipv4" in asked else Family.V6
        mark = f"ct mark set ct mark & {_others(each):#010x} | {each.mark:#010x}"
        yield f"{asked} {mark} dnat {_IP[family]} to {each.server.address(family)}"


def _others(each: Numbered) -> int:
    return 0xFFFFFFFF & ~each.server.mark_mask


def _chain(name: str, hook: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"\tchain {name} {{"
    yield f"\t\t{hook}"
    yield from (f"\t\t{rule}" for rule in rules)
    yield "\t}"


# what others have


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """Somebody else's routing rule, as far as it concerns us."""

    family: Family
    priority: int
    mark: int = 0
    mask: int = 0

    @property
    def bits(self) -> int:
        """The bits of the mark that are its owner's: without a mask it is about a number, and that number's bits."""
        return self.mark if self.mask == 0xFFFFFFFF else self.mask


@dataclass(frozen=True, slots=True)
class MultihomeFacts:
    """``rules`` and ``tables`` (of our numbers) are others'; ``cgroups`` are those asked for that are there."""

    links: Links = field(default_factory=dict)
    rules: tuple[ForeignRule, ...] = ()
    tables: frozenset[int] = frozenset()
    cgroups: frozenset[str] = frozenset()
    defaults: frozenset[Family] = frozenset(Family)
    """The families that have a default route at all."""
