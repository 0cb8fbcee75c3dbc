"""Give what was compiled its places in the maps, which are arrays of elements that everybody shares.

What a listener stood on stays as it was until the kernel is switched over: new content takes free places, and
old places are free again only when nothing refers to them any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pointsman.plan.xdp.blocks import Block, size_of, wanted_blocks
from pointsman.plan.xdp.compile import ListenerEntry, Slots
from pointsman.plan.xdp.filter_compile import FilterEntry, GuardEntry
from pointsman.plan.xdp.filter_place import NO_FILTERS, FilterLayout, FilterSizes, PlacedFilter, filter_sizes
from pointsman.plan.xdp.space import FullError, Space

__all__ = ["FullError", "Space"]


@dataclass(frozen=True, slots=True)
class FlowPlace:
    """Buckets that a listener's flows are in; ``own`` where they are no other listener's."""

    base: int
    buckets: int
    ways: int
    own: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a listener's parts are; ``hot`` and ``names`` are by the node's label."""

    nodes: int
    node_count: int
    ids: int
    ids_length: int
    labels: int
    labels_length: int
    slots: int
    slots_length: int
    counts: int
    flows: FlowPlace
    hot: dict[int, int]
    sources: int = 0
    sources_length: int = 0
    filter: PlacedFilter | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Elements of the maps; flow sizes are in buckets."""

    nodes: int
    words: int
    hot: int
    counts: int
    shared_buckets: int
    own_buckets: int
    listeners: int
    replies: int
    translations: int = 0
    blocks: int = 0
    filters: FilterSizes = NO_FILTERS

    @property
    def buckets(self) -> int:
        return self.shared_buckets + self.own_buckets

    def with_own_buckets(self, own_buckets: int) -> Sizes:
        return replace(self, own_buckets=own_buckets)


@dataclass(slots=True)
class Layout:
    """Who has which elements. ``tables`` are Maglev tables by their content: (first word, users)."""

    sizes: Sizes
    placed: dict[bytes, Placed] = field(default_factory=dict)
    tables: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    blocks: dict[bytes, Block] = field(default_factory=dict)
    """full-nat's ports, by struct block_key."""
    nodes: Space = field(init=False)
    words: Space = field(init=False)
    hot: Space = field(init=False)
    counts: Space = field(init=False)
    flows: Space = field(init=False)
    translations: Space = field(init=False)
    filters: FilterLayout = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = Space(self.sizes.nodes)
        self.words = Space(self.sizes.words)
        self.hot = Space(self.sizes.hot)
        self.counts = Space(self.sizes.counts)
        self.flows = Space(self.sizes.buckets)
        self.flows.claim((0, self.sizes.shared_buckets))
        self.translations = Space(self.sizes.translations)
        self.filters = FilterLayout(self.sizes.filters)

    def adopt(self, standing: Mapping[bytes, tuple[Placed, bytes]]) -> None:
        """Take note of listeners that are in the maps already, with the words of their Maglev tables."""
        for key, (placed, slots) in standing.items():
            self.placed[key] = placed
            if placed.slots_length:
                start, users = self.tables.get(digest(slots), (placed.slots, 0))
                self.tables[digest(slots)] = start, users + 1
        every = self.placed.values()
        self.nodes.claim(*((each.nodes, each.node_count) for each in every))
        self.counts.claim(*((each.counts, 1) for each in every))
        self.hot.claim(*((hot, 1) for each in every for hot in each.hot.values()))
        self.flows.claim(*((each.flows.base, each.flows.buckets) for each in every if each.flows.own))
        words = [(each.ids, each.ids_length) for each in every]
        words += [(each.labels, each.labels_length) for each in every]
        words += [(each.slots, each.slots_length) for each in every]
        words += [(each.sources, each.sources_length) for each in every]
        self.words.claim(*words)
        self.filters.adopt((each.filter for each in every if each.filter is not None), ())


def digest(words: bytes) -> bytes:
    return hashlib.blake2b(words, digest_size=16).digest()


def own_flows(size: int) -> tuple[int, int]:
    """Buckets and ways of a listener that remembers ``size`` flows.

    Twice the room, so that hardly a pair of buckets (16 flows) overflows before the table is as full as that: one
    flow in some three thousand then.
    """
    if size < 16:
        return 2, max(1, size // 2)
    return 2 * ((2 * size + 15) // 16), 8


def shared_buckets(flows: int) -> int:
    return own_flows(max(flows, 8))[0]


def sizes_for(entries: Iterable[ListenerEntry], flow_memory: int, guards: Iterable[GuardEntry] = ()) -> Sizes:
    """Sizes with room for the half of it all to change in one step; more than that makes new maps."""
    every = list(entries)
    nodes = sum(len(entry.nodes) for entry in every)
    most = max((len(entry.nodes) for entry in every), default=0)
    tables = {id(entry.slots): entry.slots.length for entry in every if entry.slots}
    words = sum(tables.values()) + sum(entry.ids.length + entry.labels.length for entry in every)
    largest = max(tables.values(), default=0) + 16 * most
    words += sum(2 * len(entry.sources) for entry in every)
    translations, blocks = size_of(wanted_blocks({entry.key: entry for entry in every}))
    own = sum(own_flows(entry.flow_table_size)[0] for entry in every if entry.flow_table_size)
    guards = list(guards)
    filters: dict[str, tuple[FilterEntry, int]] = {
        entry.service: (entry.filter, len(entry.nodes)) for entry in every if entry.filter is not None
    }
    return Sizes(
        nodes=nodes + nodes // 2 + 2 * most + 64,
        words=words + words // 2 + 4 * largest + 1024,
        hot=nodes + nodes // 4 + most + 64,
        counts=len(every) + len(every) // 4 + 2 * len(guards) + 16,
        shared_buckets=shared_buckets(flow_memory),
        own_buckets=own + own // 4,
        listeners=3 * len(every) + 2 * len({source for entry in every for source in entry.sources}) + 64,
        replies=2 * nodes + nodes // 2 + 2 * most + 64,
        translations=translations,
        blocks=blocks,
        filters=filter_sizes(filters.values(), guards),
    )


def place(
    layout: Layout,
    entry: ListenerEntry,
    before: Placed | None = None,
    flows: FlowPlace | None = None,
    filter_: PlacedFilter | None = None,
) -> Placed:
    """Find places for a new or changed listener; its counters and flows stay where ``before`` has them.

    ``before`` keeps its places until ``release``. ``flows`` are where they are in maps that this layout takes over.
    Raises FullError; the layout is of no use then.
    """
    hot = {
        node.label: before.hot[node.label]
        if before is not None and node.label in before.hot
        else layout.hot.take(1)
        for node in entry.nodes
    }
    slots = _take_slots(layout, entry.slots)
    return Placed(
        nodes=layout.nodes.take(len(entry.nodes)),
        node_count=len(entry.nodes),
        ids=layout.words.take(entry.ids.length),
        ids_length=entry.ids.length,
        labels=layout.words.take(entry.labels.length),
        labels_length=entry.labels.length,
        slots=slots,
        slots_length=entry.slots.length if entry.slots else 0,
        counts=before.counts if before is not None else layout.counts.take(1),
        flows=_flows(layout, entry, before.flows if before is not None else flows),
        hot=hot,
        sources=layout.words.take(2 * len(entry.sources)),
        sources_length=2 * len(entry.sources),
        filter=filter_,
    )


def _flows(layout: Layout, entry: ListenerEntry, before: FlowPlace | None) -> FlowPlace:
    if entry.flow_table_size is None:
        return FlowPlace(0, layout.sizes.shared_buckets, 8, own=False)
    buckets, ways = own_flows(entry.flow_table_size)
    if before is not None and before.own and (before.buckets, before.ways) == (buckets, ways):
        layout.flows.claim((before.base, before.buckets))
        return before
    return FlowPlace(layout.flows.take(buckets), buckets, ways, own=True)


def _take_slots(layout: Layout, slots: Slots | None) -> int:
    if slots is None:
        return 0
    key = digest(slots.words)
    start, users = layout.tables[key] if key in layout.tables else (layout.words.take(slots.length), 0)
    layout.tables[key] = start, users + 1
    return start


def keep_blocks(layout: Layout, standing: Mapping[bytes, Block]) -> None:
    """Take note of blocks that are in the maps already."""
    layout.blocks = dict(standing)
    layout.translations.claim(*((block.first, block.ports) for block in standing.values()))


def release(layout: Layout, old: Placed, new: Placed | None) -> None:
    """Give back what ``old`` had and ``new``, which stands in its place, has not."""
    layout.nodes.give(old.nodes, old.node_count)
    layout.words.give(old.ids, old.ids_length)
    layout.words.give(old.labels, old.labels_length)
    layout.words.give(old.sources, old.sources_length)
    _give_slots(layout, old)
    kept = set(new.hot.values()) if new is not None else set()
    for hot in old.hot.values():
        if hot not in kept:
            layout.hot.give(hot, 1)
    if new is None or new.counts != old.counts:
        layout.counts.give(old.counts, 1)
    if old.flows.own and (new is None or new.flows != old.flows):
        layout.flows.give(old.flows.base, old.flows.buckets)


def _give_slots(layout: Layout, old: Placed) -> None:
    if not old.slots_length:
        return
    for key, (start, users) in layout.tables.items():
        if start == old.slots:
            if users == 1:
                del layout.tables[key]
                layout.words.give(start, old.slots_length)
            else:
                layout.tables[key] = start, users - 1
            return
