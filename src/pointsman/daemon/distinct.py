"""How many different things were seen lately, in little memory (HyperLogLog, Flajolet and others 2007)."""

from __future__ import annotations

import hashlib
import math

BITS = 12
REGISTERS = 1 << BITS
STANDARD_ERROR = 1.04 / math.sqrt(REGISTERS)
"""1.6 %: two of three estimates are no further off, and nineteen of twenty no further than twice that."""

_BIAS = 0.7213 / (1 + 1.079 / REGISTERS)
_REST = 64 - BITS


class Distinct:
    """4 KiB, whatever is added."""

    __slots__ = ("_registers",)

    def __init__(self) -> None:
        self._registers = bytearray(REGISTERS)

    def add(self, thing: bytes) -> None:
        found = int.from_bytes(hashlib.blake2b(thing, digest_size=8).digest(), "big")
        register, rest = found >> _REST, found & (1 << _REST) - 1
        rank = _REST - rest.bit_length() + 1
        if rank > self._registers[register]:
            self._registers[register] = rank

    def estimate(self, other: Distinct | None = None) -> int:
        """How many different things were added, to this one or to either."""
        mine = self._registers
        registers = (
            mine if other is None else [max(pair) for pair in zip(mine, other._registers, strict=True)]
        )
        raw = _BIAS * REGISTERS**2 / sum(2.0**-rank for rank in registers)
        empty = registers.count(0)
        if raw <= 2.5 * REGISTERS and empty:
            raw = REGISTERS * math.log(
                REGISTERS / empty
            )  # few leave registers empty, which says more of them
        return round(raw)


class Window:
    """The last ``half`` to twice ``half`` seconds."""

    __slots__ = ("_before", "_begun", "_half", "_now")

    def __init__(self, half: float, now: float) -> None:
        self._half, self._begun = half, now
        self._now, self._before = Distinct(), Distinct()

    def add(self, thing: bytes, now: float) -> None:
        self._turn(now)
        self._now.add(thing)

    def estimate(self, now: float) -> int:
        self._turn(now)
        return self._now.estimate(self._before)

    def _turn(self, now: float) -> None:
        passed = now - self._begun
        if passed < self._half:
            return
        self._before = self._now if passed < 2 * self._half else Distinct()
        self._now, self._begun = Distinct(), now
