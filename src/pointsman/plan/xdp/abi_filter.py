"""The structs of filters and guards: each mirrors the one of its name in bpf/abi_filter.h."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import ClassVar

from pointsman.plan.xdp.abi import Packed

BUCKET_SHIFT = 4
"""Buckets' time is in nanoseconds shifted left by this."""
BUDGETS_SIZE = 16
"""struct buckets"""
SOURCE_PORT_WORDS, GUARD_PORT_WORDS = 1024, 16384
PEER_SIZE = 32
INTERFACE_KEY = Struct("<I")
GUARDED = Struct("<2I")
"""struct guarded"""
PREFIX_VALUE = Struct("<I")


class RuleFlag(IntFlag):
    ENFORCE = 1
    RECORDS = 2
    DTLS13 = 4
    SOURCE_PORTS = 8
    PREFIXES4 = 16
    PREFIXES6 = 32


class PrefixSays(IntEnum):
    ALLOWED = 1
    DENIED = 2


@dataclass(frozen=True, slots=True)
class FilterRule(Packed):
    """Mirrors struct filter_rule; each budget is a price and a depth."""

    FORMAT: ClassVar[Struct] = Struct("<4I16s4I10Q")

    flags: int = 0
    counts: int = 0
    generation: int = 0
    source_ports: int = 0
    mask6: bytes = bytes(16)
    mask4: int = 0
    total: int = 0
    amplification: int = 0
    cid_length: int = 0
    hello_prefix_quarter: int = 0
    hello_prefix_depth: int = 0
    hello_total_quarter: int = 0
    hello_total_depth: int = 0
    hello_node_quarter: int = 0
    hello_node_depth: int = 0
    cid_prefix_quarter: int = 0
    cid_prefix_depth: int = 0
    cid_node_quarter: int = 0
    cid_node_depth: int = 0


def prefix_key(number: int, length: int, packed: bytes) -> bytes:
    """Mirrors struct prefix4_key and prefix6_key: the filter, which is a prefix's first 32 bits, and an address."""
    return (32 + length).to_bytes(4, "little") + number.to_bytes(4, "little") + packed
