"""Which elements of an array are taken."""

from __future__ import annotations

from dataclasses import dataclass, field


class FullError(Exception):
    """A map has no room for what is wanted: the maps have to be made anew, larger."""


@dataclass(slots=True)
class Space:
    """Which elements of an array are taken; ranges are taken first-fit."""

    size: int
    free: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = self.free or ([(0, self.size)] if self.size else [])

    def take(self, length: int) -> int:
        """Take ``length`` elements in a row and return the first; raise FullError."""
        if not length:
            return 0
        for at, (start, room) in enumerate(self.free):
            if room >= length:
                self.free[at : at + 1] = [(start + length, room - length)] if room > length else []
                return start
        raise FullError

    def claim(self, *ranges: tuple[int, int]) -> None:
        """Take just those elements, as (first, length), as far as they are free: what the kernel holds already."""
        left: list[tuple[int, int]] = []
        claimed = sorted((start, start + length) for start, length in ranges if length)
        at = 0
        for first, room in self.free:
            end = first + room
            while at < len(claimed) and claimed[at][0] < end:
                start, stop = claimed[at]
                if start > first:
                    left.append((first, start - first))
                first = max(first, stop)
                if stop > end:
                    break  # it goes on in the next free range
                at += 1
            if first < end:
                left.append((first, end - first))
        self.free = left

    def give(self, start: int, length: int) -> None:
        """Make elements free again."""
        if not length:
            return
        merged: list[tuple[int, int]] = []
        for first, room in sorted([*self.free, (start, length)]):
            if merged and sum(merged[-1]) == first:
                merged[-1] = (merged[-1][0], merged[-1][1] + room)
            else:
                merged.append((first, room))
        self.free = merged

    @property
    def taken(self) -> int:
        return self.size - sum(room for _, room in self.free)
