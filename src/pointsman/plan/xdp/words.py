"""Tables made of 64-bit words: those that a key is looked up in, and Maglev's."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.plan.xdp.abi import PROBES

GOLDEN = 0x9E3779B1
LARGEST_BITS = 24


class TableTooLargeError(Exception):
    """Keys that no table of a sensible size holds within the probes that the programs make."""


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Open addressing with linear probing: 2^bits words, key << 32 | value + 1, or 0. Mirrors find_word()."""

    bits: int
    words: bytes

    @property
    def length(self) -> int:
        return len(self.words) // 8


def key_table(entries: Mapping[int, int]) -> KeyTable:
    """Lay out a table in which every 32-bit key is found within ``PROBES`` words; values are below 2^32 - 1.

    Raises TableTooLargeError where that takes more than 2^24 words, which random keys never do.
    """
    bits = max(1, (2 * len(entries) - 1).bit_length()) if entries else 1
    while bits <= LARGEST_BITS:
        words = _fill(entries, bits)
        if words is not None:
            return KeyTable(bits, words.tobytes())
        bits += 1
    raise TableTooLargeError(f"{len(entries)} keys")


def _fill(entries: Mapping[int, int], bits: int) -> array[int] | None:
    size = 1 << bits
    words = array("Q", bytes(8 * size))
    for key, value in entries.items():
        slot = (key * GOLDEN & 0xFFFFFFFF) >> (32 - bits)
        for probe in range(PROBES):
            at = (slot + probe) & (size - 1)
            if not words[at]:
                words[at] = key << 32 | value + 1
                break
        else:
            return None
    return words


def slot_words(table: array[int]) -> bytes:
    """Pack a Maglev table, four slots of 16 bits a word."""
    content = table.tobytes()
    return content + bytes(-len(content) % 8)


def unpack_words(content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(content) // 8}Q", content)
