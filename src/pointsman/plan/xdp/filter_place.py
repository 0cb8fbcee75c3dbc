"""Give filters their places in the maps, as place.py does for listeners.

A filter that is the same keeps its place, so its buckets; one that has changed takes a new place and full buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pointsman.plan.xdp.filter_compile import FilterEntry, GuardEntry
from pointsman.plan.xdp.space import FullError, Space

MOST = 65535
"""Filters at most: their numbers have 16 bits."""
PREFIXES, PEERS = 1 << 16, 1 << 16
"""How many source prefixes have buckets of their own, and how many peers are remembered, all filters together."""


@dataclass(frozen=True, slots=True)
class FilterSizes:
    """Elements of the maps; ``port_sets`` and ``guard_tables`` are of 65,536 ports each. Number 0 is no filter's."""

    rules: int = 1
    port_sets: int = 1
    budgets: int = 1
    prefixes: int = 1
    peers: int = 1
    guard_tables: int = 1


NO_FILTERS = FilterSizes()


@dataclass(frozen=True, slots=True)
class PlacedFilter:
    """``number`` is its element of ``filter_rules``; ``nodes`` are elements of ``budgets`` by the nodes' labels."""

    number: int
    port_set: int | None = None
    total: int = 0
    nodes: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class FilterLayout:
    """Who has which elements; ``placed`` by number."""

    sizes: FilterSizes
    placed: dict[int, PlacedFilter] = field(default_factory=dict)
    rules: Space = field(init=False)
    port_sets: Space = field(init=False)
    budgets: Space = field(init=False)
    guard_tables: Space = field(init=False)

    def __post_init__(self) -> None:
        self.rules = Space(self.sizes.rules)
        self.port_sets = Space(self.sizes.port_sets)
        self.budgets = Space(self.sizes.budgets)
        self.guard_tables = Space(self.sizes.guard_tables)
        self.rules.claim((0, 1))
        self.budgets.claim((0, 1))

    def adopt(self, standing: Iterable[PlacedFilter], guard_tables: Iterable[int]) -> None:
        """Take note of what is in the maps already; a filter may come with some of its nodes at a time."""
        for each in standing:
            known = self.placed.get(each.number, each)
            self.placed[each.number] = replace(known, nodes={**known.nodes, **each.nodes})
        every = self.placed.values()
        self.rules.claim(*((each.number, 1) for each in every))
        self.port_sets.claim(*((each.port_set, 1) for each in every if each.port_set is not None))
        self.budgets.claim(*((each.total, 1) for each in every if each.total))
        self.budgets.claim(*((node, 1) for each in every for node in each.nodes.values() if node))
        self.guard_tables.claim(*((table, 1) for table in guard_tables))


def filter_sizes(
    filters: Iterable[tuple[FilterEntry, int]], guards: Iterable[GuardEntry] = ()
) -> FilterSizes:
    """Sizes for filters with so many nodes each, and for guards, with room for half as much again twice."""
    guards = list(guards)
    every = [*filters, *((guard.filter, 0) for guard in guards)]
    with_ports = sum(bool(entry.source_ports) for entry, _ in every)
    nodes = sum(nodes for entry, nodes in every if entry.limits_nodes)
    interfaces = len({name for guard in guards for name in guard.interfaces})
    return FilterSizes(
        rules=min(MOST + 1, 2 * len(every) + 8),
        port_sets=2 * with_ports + 1,
        budgets=2 * nodes + 2 * len(every) + 8,
        prefixes=PREFIXES if any(entry.limits_prefixes for entry, _ in every) else 1,
        peers=PEERS if any(entry.limits_answers for entry, _ in every) else 1,
        guard_tables=2 * interfaces + 1,
    )


def place_filter(
    layout: FilterLayout, entry: FilterEntry, labels: Iterable[int], before: PlacedFilter | None
) -> PlacedFilter:
    """Find places for a filter and the nodes behind it; ``before`` is the same filter as it stands.

    Raises FullError; the layout is of no use then.
    """
    if entry.limits_prefixes and layout.sizes.prefixes < PREFIXES:
        raise FullError
    if entry.limits_answers and layout.sizes.peers < PEERS:
        raise FullError
    kept = before.nodes if before is not None else {}
    nodes = (
        {label: kept[label] if label in kept else layout.budgets.take(1) for label in labels}
        if entry.limits_nodes
        else {}
    )
    if before is not None:
        return replace(before, nodes=nodes)
    return PlacedFilter(
        number=layout.rules.take(1),
        port_set=layout.port_sets.take(1) if entry.source_ports else None,
        total=layout.budgets.take(1) if entry.limits_all else 0,
        nodes=nodes,
    )


def release_filter(layout: FilterLayout, old: PlacedFilter, new: PlacedFilter | None) -> None:
    """Give back what ``old`` had and ``new``, which is the same filter, has not."""
    kept = set(new.nodes.values()) if new is not None else set()
    for node in old.nodes.values():
        if node and node not in kept:
            layout.budgets.give(node, 1)
    if new is not None:
        return
    layout.rules.give(old.number, 1)
    if old.port_set is not None:
        layout.port_sets.give(old.port_set, 1)
    if old.total:
        layout.budgets.give(old.total, 1)
