"""full-nat: which ports of which source addresses there are towards each node endpoint, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import Compiled

Wanted = Mapping[bytes, tuple[int, int]]
"""By struct block_key: the first port and how many."""


@dataclass(frozen=True, slots=True)
class Block:
    """``first`` is the element of ``translations`` that has the first port."""

    first: int
    port: int
    ports: int

    def pack(self) -> bytes:
        return abi.Block(self.first, self.ports, self.port).pack()


def wanted_blocks(compiled: Compiled) -> Wanted:
    """What the listeners hand out of; where several do so towards one node endpoint, all of their ranges together."""
    found: dict[bytes, tuple[int, int]] = {}
    for entry in compiled.values():
        if not entry.sources:
            continue
        first, count = entry.source_ports
        for source in entry.sources:
            for node in entry.nodes:
                key = source + node.reply_key
                port, ports = found.get(key, (first, count))
                low, end = min(port, first), max(port + ports, first + count)
                found[key] = low, end - low
    return found


def size_of(wanted: Wanted) -> tuple[int, int]:
    """Elements of ``translations``, with room for the largest block to come anew, and of ``blocks``."""
    if not wanted:
        return 0, 0
    every = [ports for _, ports in wanted.values()]
    return sum(every) + max(every), len(every) + len(every) // 2 + 64


def overlap(old: Block, new: Block) -> tuple[int, int, int]:
    """Elements that stand for the same ports: the first of the old block, of the new one, and how many."""
    low = max(old.port, new.port)
    end = min(old.port + old.ports, new.port + new.ports)
    return old.first + low - old.port, new.first + low - new.port, max(0, end - low)
