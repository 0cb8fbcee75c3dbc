"""Maglev tables as maps, shared by all services with the same nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pointsman.model import NodeState, Service
from pointsman.plan import maglev
from pointsman.plan.members import members, size_of
from pointsman.plan.nftables.expressions import LABEL, SLOT_KEY
from pointsman.plan.nftables.ruleset import Set


@dataclass(frozen=True, slots=True)
class MaglevTable:
    """A table by its content: ``members`` are (name, weight, label) of the nodes that take new flows."""

    members: tuple[tuple[str, int, int], ...]
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Made from the content: a change of nodes is another map, which the rules are switched to at once."""
        content = repr((self.members, self.size, self.seed)).encode()
        return f"maglev/{hashlib.blake2b(content, digest_size=8).hexdigest()}"

    def as_map(self) -> Set:
        return Set(self.name, f"{SLOT_KEY} : {LABEL}", size=self.size, content=_content(self))


@lru_cache(maxsize=64)
def _slots(size: int) -> tuple[str, ...]:
    return tuple(f"{slot} : " for slot in range(size))


@lru_cache(maxsize=4096)
def _content(table: MaglevTable) -> str:
    labels = [str(label) for _, _, label in table.members]
    indexes = maglev.build([(name, weight) for name, weight, _ in table.members], table.size, table.seed)
    return ", ".join([slot + labels[index] for slot, index in zip(_slots(table.size), indexes, strict=True)])


def table_of(
    service: Service, states: Sequence[NodeState], shares: Sequence[int], labels: Sequence[int], seed: int
) -> MaglevTable | None:
    """The service's table, or None where no node takes new flows."""
    by_name = {node.name: label for node, label in zip(service.nodes, labels, strict=True)}
    rows = tuple((name, weight, by_name[name]) for name, weight in members(service, states, shares))
    return MaglevTable(rows, size_of(service), seed) if rows else None
