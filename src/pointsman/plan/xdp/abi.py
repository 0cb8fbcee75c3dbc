"""The structs that the XDP programs share with user space: each mirrors the one of its name in bpf/abi.h.

tests/unit/plan/xdp/test_abi.py holds the layouts against the object's BTF. Numbers are little-endian; addresses
and ports are as they lie in a packet, and an IPv4 address is mapped into IPv6 (::ffff:a.b.c.d).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from enum import IntEnum, IntFlag
from functools import cache
from struct import Struct
from typing import Any, ClassVar, Self, cast

from pointsman.model import Address, Encapsulation, Forward, Protocol, Scheduler
from pointsman.plan.verdicts import Verdict

VERSION = 2
PORTS = 256
STAMP_BYTES = 32
EVENT_BYTES = 96
FLOW_TICK_SHIFT = 28
FLOW_WAYS = 8
PROBES = 8
FILTER_LISTENER_BITS = 12
FILTER_NODE_BITS = 16
FRAGMENTS = 16384

NODE_VERDICTS = (Verdict.CID, Verdict.FLOW, Verdict.BALANCED, Verdict.REPLY)
LISTENER_VERDICTS = (
    Verdict.CID_UNKNOWN,
    Verdict.CID_NODE_DOWN,
    Verdict.NO_NODE,
    Verdict.HOP_LIMIT,
    Verdict.TOO_BIG,
    Verdict.NO_ROUTE,
    Verdict.NOT_DTLS,
    Verdict.BAD_LENGTH,
    Verdict.BAD_EPOCH,
    Verdict.SOURCE_PORT,
    Verdict.DENIED,
    Verdict.HELLO_OVER_PREFIX,
    Verdict.HELLO_OVER_TOTAL,
    Verdict.HELLO_OVER_NODE,
    Verdict.CID_OVER_PREFIX,
    Verdict.CID_OVER_NODE,
    Verdict.UNPROVEN,
    Verdict.NO_SOURCE_PORT,
    Verdict.UNREAD,
)
GATEWAY_VERDICTS = (
    Verdict.FLOW_TABLE_FULL,
    Verdict.HAIRPIN,
    Verdict.ICMP_SUPPRESSED,
    Verdict.BY_KERNEL,
    Verdict.FRAGMENT,
    Verdict.FRAGMENT_LOST,
    Verdict.ICMP_ERROR,
    Verdict.ICMP_UNKNOWN,
    Verdict.NO_NEIGHBOUR,
)
"""Each in the order of its enum in bpf/verdicts.h: the index is the counter's place."""

COUNTER = Struct("<QQ")
HOT_SIZE = 128
LISTENER_COUNTS_SIZE = 384
GATEWAY_COUNTS_SIZE = 256
BUCKET_SIZE = 64
DESTINATION_SIZE = 64


class ProtocolNumber(IntEnum):
    """IANA's protocol numbers."""

    TCP = 6
    UDP = 17


class Kind(IntEnum):
    """Mirrors enum protocol."""

    DTLS = 1
    UDP = 2
    TCP = 3


class SchedulerNumber(IntEnum):
    """Mirrors enum scheduler."""

    MAGLEV = 0
    RANDOM = 1
    ROUND_ROBIN = 2
    LEAST_CONNECTIONS = 3


SCHEDULERS = {each: SchedulerNumber[each.name] for each in Scheduler}


class ForwardNumber(IntEnum):
    """Mirrors enum forward."""

    NAT = 0
    FULL_NAT = 1
    DSR = 2
    TUNNEL = 3


FORWARDS = {each: ForwardNumber[each.name] for each in Forward}


class EncapsulationNumber(IntEnum):
    """Mirrors enum encapsulation."""

    NONE = 0
    IPIP = 1
    GUE = 2


ENCAPSULATIONS = {each: EncapsulationNumber[each.name] for each in Encapsulation}

KINDS = {each: Kind[each.name] for each in Protocol}


class ListenerFlag(IntFlag):
    VALID = 1
    BY_CID = 2
    UNKNOWN_BALANCED = 4
    DOWN_BALANCED = 8


class NodeFlag(IntFlag):
    TAKES_NEW = 1
    TAKES_NAMED = 2
    LEAVING = 4
    SCHEDULED = 8


class ReplyFlag(IntFlag):
    VALID = 1
    BY_CID = 2


class PortFlag(IntFlag):
    NATIVE = 1
    GENERIC = 2
    SLOW_TX = 4
    NO_META = 8
    CLIENTS = 16


class ConfigFlag(IntFlag):
    ASK_ALWAYS = 1
    COUNT_FLOWS = 2


class Tail(IntEnum):
    """enum tail: the programs that are tail-called, by their place in ``tails``."""

    ODD = 0
    NOTED = 1
    ICMP = 2
    ERROR = 3
    BY_KERNEL = 4
    FULL_NAT = 5
    FULL_NAT_BACK = 6
    ERROR_TO_NODE = 7
    ERROR_TO_CLIENT = 8
    PASS_BY = 9
    GUARD_ODD = 10


TAIL_PROGRAMS = {
    Tail.ODD: "pointsman_odd",
    Tail.NOTED: "pointsman_noted",
    Tail.ICMP: "pointsman_icmp",
    Tail.ERROR: "pointsman_error",
    Tail.BY_KERNEL: "pointsman_by_kernel",
    Tail.FULL_NAT: "pointsman_full_nat",
    Tail.FULL_NAT_BACK: "pointsman_full_nat_back",
    Tail.ERROR_TO_NODE: "pointsman_error_to_node",
    Tail.ERROR_TO_CLIENT: "pointsman_error_to_client",
    Tail.PASS_BY: "pointsman_pass_by",
    Tail.GUARD_ODD: "pointsman_guard_odd",
}


def wire_address(address: Address) -> bytes:
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def wire_port(port: int) -> bytes:
    return port.to_bytes(2, "big")


def endpoint_key(address: Address, port: int, protocol: int) -> bytes:
    """Mirrors struct endpoint_key."""
    return wire_address(address) + wire_port(port) + bytes((protocol, 0))


class Packed:
    """A struct by its dataclass's fields, in their order."""

    FORMAT: ClassVar[Struct]

    def values(self) -> tuple[int | bytes, ...]:
        return tuple(getattr(self, name) for name in _names(cast(Hashable, type(self))))

    def pack(self) -> bytes:
        return self.FORMAT.pack(*self.values())

    @classmethod
    def unpack(cls, data: Any, offset: int = 0) -> Self:
        return cls(*cls.FORMAT.unpack_from(data, offset))


@cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cast("type", kind)))


@dataclass(frozen=True, slots=True)
class Config(Packed):
    """Mirrors struct config."""

    FORMAT: ClassVar[Struct] = Struct(f"<14I{STAMP_BYTES}s{STAMP_BYTES}s")
    ACTIVE: ClassVar[int] = 0
    """Offset of ``active``."""
    DIRTY: ClassVar[int] = 4
    MULTIPLIER: ClassVar[int] = 16
    GENERATION: ClassVar[int] = 28
    SAMPLE: ClassVar[int] = 40
    FLAGS: ClassVar[int] = 48
    STAMPS: ClassVar[int] = 56

    active: int = 0
    dirty: int = 0
    hot_stride: int = 0
    listener_stride: int = 0
    port_multiplier: int = 1 << 24
    next_hop_age: int = 0
    confirm_age: int = 0
    next_hop_generation: int = 0
    destinations_mask: int = 0
    origins_mask: int = 0
    sample: int = 0
    icmp_rate: int = 0
    flags: int = 0
    shared_buckets: int = 0
    stamp0: bytes = bytes(STAMP_BYTES)
    stamp1: bytes = bytes(STAMP_BYTES)


FLOW_TABLE = "Q6I"


@dataclass(frozen=True, slots=True)
class Listener(Packed):
    """Mirrors struct listener."""

    FORMAT: ClassVar[Struct] = Struct(f"<{FLOW_TABLE}9IHBBBBHIIIIBBBBIHHII")
    FLAGS_OFFSET: ClassVar[int] = 73

    salt: int = 0
    flow_base: int = 0
    flow_pairs: int = 0
    flow_ways: int = 0
    flow_ticks: int = 0
    handshake_ticks: int = 0
    hash_seed: int = 0
    nodes: int = 0
    slots: int = 0
    slot_count: int = 0
    ids: int = 0
    id_bits: int = 0
    labels: int = 0
    label_bits: int = 0
    counts: int = 0
    id_mask: int = 0
    id_start: int = 0
    id_span: int = 0
    id_shift: int = 0
    protocol: int = 0
    flags: int = 0
    zero: int = 0
    node_count: int = 0
    filter: int = 0
    affinity_ticks: int = 0
    turn: int = 0
    affinity4: int = 0
    affinity6: int = 0
    scheduler: int = 0
    forward: int = 0
    sources: int = 0
    source_count: int = 0
    source_port: int = 0
    source_ports: int = 0
    zero2: int = 0


@dataclass(frozen=True, slots=True)
class Node(Packed):
    """Mirrors struct node."""

    FORMAT: ClassVar[Struct] = Struct("<16s2sHHHIIIIQ16s")

    address: bytes
    port: bytes
    label: int
    flags: int
    weight: int
    hot: int
    l4_delta: int
    l3_delta: int
    budget: int = 0
    until: int = 0
    outer: bytes = bytes(16)

    def reply_key(self, listener: bytes) -> bytes:
        """The key of what it sends, given the key of its listener, which ends with the protocol."""
        return self.address + self.port + listener[18:]


@dataclass(frozen=True, slots=True)
class Reply(Packed):
    """Mirrors struct reply."""

    FORMAT: ClassVar[Struct] = Struct(f"<{FLOW_TABLE}16s2sHBBHIIIIQ")
    FLAGS_OFFSET: ClassVar[int] = 53

    salt: int = 0
    flow_base: int = 0
    flow_pairs: int = 0
    flow_ways: int = 0
    flow_ticks: int = 0
    handshake_ticks: int = 0
    hash_seed: int = 0
    address: bytes = bytes(16)
    port: bytes = bytes(2)
    label: int = 0
    protocol: int = 0
    flags: int = 0
    filter: int = 0
    hot: int = 0
    counts: int = 0
    l4_delta: int = 0
    l3_delta: int = 0
    until: int = 0


@dataclass(frozen=True, slots=True)
class Block(Packed):
    """Mirrors struct block."""

    FORMAT: ClassVar[Struct] = Struct("<4I")

    first: int
    ports: int
    port: int
    hand: int = 0


TRANSLATION_LIVE = 1
"""A mark in ``Translation.state``; see bpf/lib/translation.h."""


@dataclass(frozen=True, slots=True)
class Translation(Packed):
    """Mirrors struct translation."""

    FORMAT: ClassVar[Struct] = Struct("<Q16s16s2s2sHH")

    state: int
    client: bytes
    listener: bytes
    client_port: bytes
    listener_port: bytes
    label: int
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Shortcut(Packed):
    """Mirrors struct shortcut."""

    FORMAT: ClassVar[Struct] = Struct("<16s2s2sHHI")

    source: bytes
    source_port: bytes
    node_port: bytes
    label: int
    zero: int
    element: int


@dataclass(frozen=True, slots=True)
class Port(Packed):
    """Mirrors struct port."""

    FORMAT: ClassVar[Struct] = Struct("<IIH6sII")

    interface: int = 0
    lower: int = 0
    vlan: int = 0
    mac: bytes = bytes(6)
    flags: int = 0
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Event(Packed):
    """struct event: a sampled packet; ``time`` is monotonic, in ns."""

    FORMAT: ClassVar[Struct] = Struct(f"<QIIII{EVENT_BYTES}s")

    time: int
    code: int
    subject: int
    interface: int
    length: int
    bytes: bytes = field(repr=False)

    @property
    def verdict(self) -> Verdict:
        scope, index = divmod(self.code, 0x100)
        return (NODE_VERDICTS, LISTENER_VERDICTS, GATEWAY_VERDICTS)[scope][index]
