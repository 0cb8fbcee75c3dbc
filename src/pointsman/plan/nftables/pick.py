"""How a scheduler picks a label in one rule: a number, and a map that has a label for it.

Maglev's number is the hash of the client, so that it comes to the same node again; those of random and round-robin
are nft's, drawn once for each new flow, which is remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pointsman.model import NodeState, Scheduler, Service
from pointsman.plan.members import members
from pointsman.plan.nftables.expressions import LABEL, SLOT_KEY, FamilyWords
from pointsman.plan.nftables.ruleset import Set
from pointsman.plan.nftables.tables import MaglevTable, table_of
from pointsman.plan.turns import turns

_NUMBERS = {Scheduler.RANDOM: "random", Scheduler.ROUND_ROBIN: "inc"}


@dataclass(frozen=True, slots=True)
class TurnTable:
    """Each label as often as its node's weight says; ``members`` are (label, weight)."""

    members: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """Made from the content, as a Maglev table's is."""
        return f"turns/{hashlib.blake2b(repr(self.members).encode(), digest_size=8).hexdigest()}"

    @property
    def labels(self) -> tuple[int, ...]:
        return _order(self)

    def as_map(self) -> Set:
        order = self.labels
        content = ", ".join(f"{turn} : {label}" for turn, label in enumerate(order))
        return Set(self.name, f"{SLOT_KEY} : {LABEL}", size=len(order), content=content)


@lru_cache(maxsize=4096)
def _order(table: TurnTable) -> tuple[int, ...]:
    return tuple(table.members[index][0] for index in turns([weight for _, weight in table.members]))


@dataclass(frozen=True, slots=True)
class Pick:
    """The scheduler of a service, as long as any node takes new flows."""

    scheduler: Scheduler
    table: MaglevTable | TurnTable

    def expression(self, words: FamilyWords, seed: int) -> str:
        """The label of the node that a new flow goes to."""
        if isinstance(self.table, MaglevTable):
            return f"{words.slot(self.table.size, seed)} map @{self.table.name}"
        number = f"numgen {_NUMBERS[self.scheduler]} mod {len(self.table.labels)}"
        return f"{number} map @{self.table.name}"


def pick_of(
    service: Service, states: Sequence[NodeState], shares: Sequence[int], labels: Sequence[int], seed: int
) -> Pick | None:
    """None where no node takes new flows."""
    table: MaglevTable | TurnTable | None
    if service.scheduler is Scheduler.MAGLEV:
        table = table_of(service, states, shares, labels, seed)
    else:
        by_name = {node.name: label for node, label in zip(service.nodes, labels, strict=True)}
        rows = tuple((by_name[name], weight) for name, weight in members(service, states, shares))
        table = TurnTable(rows) if rows else None
    return None if table is None else Pick(service.scheduler, table)
