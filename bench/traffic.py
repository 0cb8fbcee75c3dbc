"""What the generator sends and the sinks count: the Python twins of the structs in bpf/rig.h."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

PORT = 5684
CID_LENGTH = 6
_PAYLOAD = 80
_HEAD_WORDS = 4
_NETWORK = {4: 14 + 20, 6: 14 + 40}
_TCP_HEADER, _UDP_HEADER = 20, 8

# The gateway's interfaces, and the Ethernet addresses of all four; whom each of the gateway's speaks to.
WAN, LAN = "wan", "lan"
MAC = {name: bytes((2, 0, 0, 0, 0, at)) for at, name in enumerate(("gen", WAN, LAN, "sink"), start=1)}
BEYOND = {WAN: "gen", LAN: "sink"}

Address = IPv4Address | IPv6Address

# RFC 5737 and 3849: the service. RFC 2544: the nodes. 10/8 and 2001:db8:c::/48: the devices' NATs.
VIP: dict[int, Address] = {4: IPv4Address("192.0.2.10"), 6: IPv6Address("2001:db8::10")}
NODES: dict[int, Address] = {4: IPv4Address("198.18.0.0"), 6: IPv6Address("2001:db8:b::")}
CLIENTS: dict[int, Address] = {4: IPv4Address("10.0.0.0"), 6: IPv6Address("2001:db8:c::")}
# What the services that nobody speaks to listen on, and where their nodes are.
OTHER_VIPS: dict[int, Address] = {4: IPv4Address("198.51.100.0"), 6: IPv6Address("2001:db8:e::")}
OTHER_NODES: dict[int, Address] = {4: IPv4Address("198.19.0.0"), 6: IPv6Address("2001:db8:d::")}


class Kind(IntEnum):
    """What is sent. Mirrors enum kind."""

    CID = 0
    UDP = 1
    TCP = 2
    HELLO = 3

    @property
    def protocol(self) -> str:
        """Return the word in the configuration."""
        return {Kind.UDP: "udp", Kind.TCP: "tcp"}.get(self, "dtls")

    @property
    def transport(self) -> str:
        return "tcp" if self is Kind.TCP else "udp"

    @property
    def port(self) -> int:
        """Return the service's port: coaps, coap, secure-mqtt."""
        return {Kind.UDP: 5683, Kind.TCP: 8883}.get(self, PORT)


BALANCED = (Kind.CID, Kind.UDP, Kind.TCP)
"""The kinds that have a service of their own."""


class Pattern(IntEnum):
    """Which device speaks from which address. Mirrors enum pattern."""

    ESTABLISHED = 0
    NEW = 1
    REUSED = 2


@dataclass(frozen=True, slots=True)
class Scenario:
    """One cell of the matrix: a stream of CID records, datagrams or segments, or of the answers to them."""

    family: int
    nodes: int
    flows: int
    pattern: Pattern = Pattern.ESTABLISHED
    reply: bool = False
    kind: Kind = Kind.CID
    services: int = 1  # the measured one among so many

    @property
    def name(self) -> str:
        way = "reply" if self.reply else "forward"
        return f"IPv{self.family} {way}, {self.nodes} nodes, {self.traffic}"

    @property
    def traffic(self) -> str:
        kind = "" if self.kind is Kind.CID else f"{self.kind.name} "
        among = f", {self.services:,} services" if self.services > 1 else ""
        return f"{kind}{self._clients}{among}"

    @property
    def _clients(self) -> str:
        if self.pattern is Pattern.NEW:
            return "every packet a new address"
        if self.pattern is Pattern.REUSED:
            return f"{self.flows:,} NAT ports, reused"
        return f"{self.flows:,} flows"


def node_address(family: int, node: int) -> Address:
    return NODES[family] + node


class Traffic(ctypes.Structure):
    """Mirrors struct traffic."""

    _fields_ = (
        ("vip", ctypes.c_uint8 * 16),
        ("node_base", ctypes.c_uint8 * 16),
        ("client_base", ctypes.c_uint8 * 16),
        ("head", ctypes.c_uint8 * (_HEAD_WORDS * 4)),
        ("payload_sum", ctypes.c_uint32),
        ("flows", ctypes.c_uint32),
        ("nodes", ctypes.c_uint32),
        ("dst_mac", ctypes.c_uint8 * 6),
        ("src_mac", ctypes.c_uint8 * 6),
        ("vip_port", ctypes.c_uint8 * 2),
        ("node_port", ctypes.c_uint8 * 2),
        ("family", ctypes.c_uint8),
        ("pattern", ctypes.c_uint8),
        ("reply", ctypes.c_uint8),
        ("direct", ctypes.c_uint8),
        ("kind", ctypes.c_uint8),
        ("syn", ctypes.c_uint8),
        ("learn", ctypes.c_uint8),
        ("spare", ctypes.c_uint8),
    )
    nodes: int
    family: int
    kind: int
    syn: int


class Counts(ctypes.Structure):
    """Mirrors struct counts."""

    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("packets", "misrouted", "sampled", "bad", "moved", "foreign")
    )
    packets: int
    misrouted: int
    sampled: int
    bad: int
    moved: int
    foreign: int


class Progress(ctypes.Structure):
    """Mirrors struct progress."""

    _fields_ = (("next", ctypes.c_uint64), ("began", ctypes.c_uint64), ("seen", ctypes.c_uint64))
    next: int
    began: int
    seen: int


def record() -> bytes:
    """Return a tls12_cid record (RFC 9146) with a CID of zeros, to be filled in, and a meaningless body.

    The answers carry one too: a server sends type 25 where the *client* asked for a CID, and then its bytes
    look like a node id that nobody may read as one.
    """
    body = _PAYLOAD - 11 - CID_LENGTH - 2
    header = bytes((25, 0xFE, 0xFD)) + (1).to_bytes(2) + (0x01020304).to_bytes(6)
    return header + bytes(CID_LENGTH) + body.to_bytes(2) + bytes(range(0xA0, 0xA0 + body))


def client_hello() -> bytes:
    """Return a first ClientHello in a record of DTLS 1.2 (RFC 6347), without a cookie: a stranger's."""
    fixed = bytes((0xFE, 0xFD)) + bytes(range(32)) + bytes(2)  # version, random, no session, no cookie
    suites = _PAYLOAD - 13 - 12 - len(fixed) - 2 - 3
    body = fixed + suites.to_bytes(2) + bytes((0xC0, 0xA8)) * (suites // 2) + bytes((2, 1, 0))
    message = bytes((1,)) + len(body).to_bytes(3) + bytes(2) + bytes(3) + len(body).to_bytes(3) + body
    return bytes((22, 0xFE, 0xFD)) + bytes(2) + (1).to_bytes(6) + len(message).to_bytes(2) + message


def payload(kind: Kind) -> bytes:
    """Return what goes behind the headers: a record, or bytes that could be no record."""
    if kind is Kind.CID:
        return record()
    if kind is Kind.HELLO:
        return client_hello()
    return bytes(_HEAD_WORDS * 4) + bytes(range(0xA0, 0xA0 + _PAYLOAD - _HEAD_WORDS * 4))


def frame(cell: Traffic) -> bytes:
    """Return the template that the generator overwrites the headers of."""
    kind = Kind(cell.kind)
    header = _TCP_HEADER if kind is Kind.TCP else _UDP_HEADER
    return bytes(_NETWORK[cell.family] + header) + (b"" if cell.syn else payload(kind))


def word_sum(data: bytes) -> int:
    """Sum the 16-bit words as the machine reads them, folded to 16 bits."""
    total = sum(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def traffic(
    scenario: Scenario,
    *,
    reply: bool,
    direct: bool,
    source: bytes,
    destination: bytes,
    syn: bool = False,
    learn: bool = False,
) -> Traffic:
    """Fill in struct traffic; ``source`` and ``destination`` are the first hop's Ethernet addresses."""
    template = payload(scenario.kind)
    port = scenario.kind.port.to_bytes(2)
    result = Traffic(
        payload_sum=word_sum(template),
        flows=scenario.flows,
        nodes=scenario.nodes,
        family=scenario.family,
        pattern=scenario.pattern,
        reply=reply,
        direct=direct,
        kind=scenario.kind,
        syn=syn,
        learn=learn,
    )
    for field, value in {
        "vip": VIP[scenario.family].packed.ljust(16, b"\0"),
        "node_base": NODES[scenario.family].packed.ljust(16, b"\0"),
        "client_base": CLIENTS[scenario.family].packed.ljust(16, b"\0"),
        "head": template[: _HEAD_WORDS * 4],
        "dst_mac": destination,
        "src_mac": source,
        "vip_port": port,
        "node_port": port,
    }.items():
        getattr(result, field)[:] = value
    return result
