"""Count what is in the memory of flows of bpf/lib/flow.h: tag 24 | label 16 | class 2 | deadline 22."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

ENTRY = 8
DEADLINE_BITS = 22
HALF = 1 << (DEADLINE_BITS - 1)

_DEADLINE = (1 << DEADLINE_BITS) - 1
_KIND = ((1 << 40) - 1) ^ _DEADLINE


def count_remembered(rows: Iterable[bytes], now: int) -> dict[tuple[int, int], int]:
    """Entries that are not over at the tick ``now``, by label and class.

    A row's entries are worked on side by side, as the 64-bit lanes of one great number: two million of them, one by
    one, take more than a second of Python's.
    """
    found: Counter[int] = Counter()
    for row in rows:
        if row != bytes(len(row)):
            found.update(_keys(row, len(row) // ENTRY, now & _DEADLINE))
    return {(key >> 3, key >> 1 & 3): flows for key, flows in found.items() if key >> 3 and not key & 1}


def _keys(row: bytes, entries: int, now: int) -> list[int]:
    """Label, class, and a bit that says that it is over, of each entry."""
    content = int.from_bytes(row, "little")
    # One tick less than is left; what is over has the highest bit of it set.
    left = (content & _lanes(_DEADLINE, entries)) + _lanes(1, entries) * (_DEADLINE - now)
    keys = (content & _lanes(_KIND, entries) | left & _lanes(HALF, entries)) >> (DEADLINE_BITS - 1)
    return memoryview(keys.to_bytes(len(row), "little")).cast("I")[::2].tolist()


@cache
def _lanes(value: int, entries: int) -> int:
    """The value in every lane."""
    return int.from_bytes(value.to_bytes(ENTRY, "little") * entries, "little")
