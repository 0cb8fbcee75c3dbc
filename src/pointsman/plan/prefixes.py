"""Which sources a filter allows and which it denies: prefixes made into ranges that do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.model import Family, Filter, Prefix

Range = tuple[int, int]
"""First and last address as numbers, both included."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The ranges of one family whose longest prefix is allowed, or denied; sorted, none touches the next."""

    allowed: tuple[Range, ...]
    denied: tuple[Range, ...]


def sources(own: Filter, family: Family) -> Sources:
    """Settle which prefix has each address: the longest one, and of two alike the allowed one."""
    decided: dict[tuple[int, int], bool] = {}
    for allowed, prefixes in ((False, own.deny), (True, own.allow)):
        for prefix in _of(family, prefixes):
            decided[int(prefix.network_address), prefix.prefixlen] = allowed
    bits = 32 if family is Family.V4 else 128
    found: dict[bool, list[Range]] = {True: [], False: []}
    for first, last, allowed in _settled(decided, bits):
        ranges = found[allowed]
        if ranges and ranges[-1][1] == first - 1:
            first = ranges.pop()[0]
        ranges.append((first, last))
    return Sources(tuple(found[True]), tuple(found[False]))


def _of(family: Family, prefixes: Iterable[Prefix]) -> Iterator[Prefix]:
    return (prefix for prefix in prefixes if prefix.version == family.value)


def _settled(decided: dict[tuple[int, int], bool], bits: int) -> Iterator[tuple[int, int, bool]]:
    """Ranges in order, each with what the longest prefix says.

    Sorted by first address and then by length, a prefix comes right behind those that contain it: ``around`` holds
    these, each as its last address and its word, and ``at`` is the first address that is not settled yet.
    """
    around: list[tuple[int, bool]] = []
    at = 0
    for (first, length), allowed in sorted(decided.items()):
        while around and around[-1][0] < first:
            last, word = around.pop()
            if at <= last:
                yield at, last, word
                at = last + 1
        if around and at < first:
            yield at, first - 1, around[-1][1]
        at = max(at, first)
        around.append((first + (1 << (bits - length)) - 1, allowed))
    while around:
        last, word = around.pop()
        if at <= last:
            yield at, last, word
            at = last + 1
