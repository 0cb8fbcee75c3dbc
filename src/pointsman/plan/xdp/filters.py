"""Bits that say whether an address may be a listener's or a node's; see FILTER_WORDS in bpf/abi.h."""

from __future__ import annotations

from collections.abc import Iterable
from struct import unpack

from pointsman.plan.xdp.abi import FILTER_LISTENER_BITS, FILTER_NODE_BITS
from pointsman.plan.xdp.compile import ADDRESS, Compiled
from pointsman.plan.xdp.words import GOLDEN

_LISTENERS = (1 << FILTER_LISTENER_BITS) // 8
_NODES = (1 << FILTER_NODE_BITS) // 8


def filter_hash(wire: bytes) -> int:
    """Hash an address (16 bytes) as the programs do; mirrors its namesake in bpf/lookup.h."""
    first, second, third, last = (int(word) for word in unpack("<4I", wire))
    mixed = last ^ _rotated(third, 7) ^ _rotated(second, 13) ^ _rotated(first, 19)
    return mixed * GOLDEN & 0xFFFFFFFF


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def filters(compiled: Compiled) -> bytes:
    """The content of the map ``filters``."""
    listeners = {entry.key[:ADDRESS] for entry in compiled.values()}
    listeners |= {source for entry in compiled.values() for source in entry.sources}
    nodes = {node.reply_key[:ADDRESS] for entry in compiled.values() for node in entry.replying}
    return _bits(listeners, FILTER_LISTENER_BITS, _LISTENERS) + _bits(nodes, FILTER_NODE_BITS, _NODES)


def _bits(addresses: Iterable[bytes], bits: int, size: int) -> bytes:
    found = bytearray(size)
    for address in addresses:
        bit = filter_hash(address) >> (32 - bits)
        found[bit // 8] |= 1 << bit % 8
    return bytes(found)


def united(one: bytes, other: bytes) -> bytes:
    number = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")
