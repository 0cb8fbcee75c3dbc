"""The table of interfaces: its slots are found by a multiplication, so one is sought that keeps them apart."""

from __future__ import annotations

from collections.abc import Iterable

from pointsman.plan.xdp import abi
from pointsman.plan.xdp.words import GOLDEN


def slot(interface: int, multiplier: int) -> int:
    """Mirrors port_of() in bpf/next_hop.h."""
    return (interface * multiplier & 0xFFFFFFFF) >> 24


MOST = abi.PORTS // 4
"""Interfaces at most, for which a multiplier is found at once."""


def port_table(ports: Iterable[abi.Port], standing: int = 1 << 24) -> tuple[int, bytes]:
    """Lay out ``ports``; returns the multiplier, the ``standing`` one if it will do, and the whole table.

    Raises ValueError for more than ``MOST`` interfaces.
    """
    rows = list(ports)
    if len(rows) > MOST:
        raise ValueError(f"{len(rows)} interfaces, {MOST} at most")
    for candidate in range(1 << 20):
        multiplier = candidate * GOLDEN & 0xFFFFFFFF | 1 if candidate else standing
        slots = {slot(row.interface, multiplier): row for row in rows}
        if len(slots) == len(rows):
            table = bytearray(abi.PORTS * abi.Port.FORMAT.size)
            for at, row in slots.items():
                abi.Port.FORMAT.pack_into(table, at * abi.Port.FORMAT.size, *row.values())
            return multiplier, bytes(table)
    raise ValueError("no multiplier keeps the interfaces apart")
