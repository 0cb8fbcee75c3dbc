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
_HEADERS = {4: 14 + 20 + 8, 6: 14 + 40 + 8}

Address = IPv4Address | IPv6Address

# RFC 5737 and 3849: the service. RFC 2544: the nodes. 10/8 and 2001:db8:c::/48: the devices' NATs.
VIP: dict[int, Address] = {4: IPv4Address("192.0.2.10"), 6: IPv6Address("2001:db8::10")}
NODES: dict[int, Address] = {4: IPv4Address("198.18.0.0"), 6: IPv6Address("2001:db8:b::")}
CLIENTS: dict[int, Address] = {4: IPv4Address("10.0.0.0"), 6: IPv6Address("2001:db8:c::")}


class Pattern(IntEnum):
    """Which device speaks from which address. Mirrors enum pattern."""

    ESTABLISHED = 0
    NEW = 1
    REUSED = 2


@dataclass(frozen=True, slots=True)
class Scenario:
    """One cell of the matrix: a stream of CID records, or of the answers to them."""

    family: int
    nodes: int
    flows: int
    pattern: Pattern = Pattern.ESTABLISHED
    reply: bool = False

    @property
    def name(self) -> str:
        way = "reply" if self.reply else "forward"
        return f"IPv{self.family} {way}, {self.nodes} nodes, {self.traffic}"

    @property
    def traffic(self) -> str:
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
    )
    nodes: int
    family: int


class Counts(ctypes.Structure):
    """Mirrors struct counts."""

    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("packets", "misrouted", "sampled", "bad", "foreign")
    )
    packets: int
    misrouted: int
    sampled: int
    bad: int
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


def frame(family: int) -> bytes:
    """Return the template that the generator overwrites the headers of."""
    return bytes(_HEADERS[family]) + record()


def _word_sum(data: bytes) -> int:
    """Sum the 16-bit words as the machine reads them, folded to 16 bits."""
    total = sum(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def traffic(
    scenario: Scenario, *, reply: bool, direct: bool, source: bytes, destination: bytes, node_port: int = PORT
) -> Traffic:
    """Fill in struct traffic; ``source`` and ``destination`` are the first hop's Ethernet addresses."""
    template = record()
    result = Traffic(
        payload_sum=_word_sum(template),
        flows=scenario.flows,
        nodes=scenario.nodes,
        family=scenario.family,
        pattern=scenario.pattern,
        reply=reply,
        direct=direct,
    )
    for field, value in {
        "vip": VIP[scenario.family].packed.ljust(16, b"\0"),
        "node_base": NODES[scenario.family].packed.ljust(16, b"\0"),
        "client_base": CLIENTS[scenario.family].packed.ljust(16, b"\0"),
        "head": template[: _HEAD_WORDS * 4],
        "dst_mac": destination,
        "src_mac": source,
        "vip_port": PORT.to_bytes(2),
        "node_port": node_port.to_bytes(2),
    }.items():
        getattr(result, field)[:] = value
    return result
