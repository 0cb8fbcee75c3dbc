from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.plan.xdp.sample import TEXTS, inputs, text

from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.xdp.compile import Compiled, compile_listeners
from pointsman.plan.xdp.place import FullError, Layout, Placed, Space, place, release, sizes_for

SIZE = 64


class SpaceModel(RuleBasedStateMachine):
    """A space beside a plain set of the elements that are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.space = Space(SIZE)
        self.taken: set[int] = set()
        self.ranges: list[tuple[int, int]] = []

    @rule(length=st.integers(0, 20))
    def take(self, length: int) -> None:
        try:
            start = self.space.take(length)
        except FullError:
            runs = "".join("x" if at in self.taken else "." for at in range(SIZE)).split("x")
            assert max(map(len, runs)) < length
            return
        own = set(range(start, start + length))
        assert not own & self.taken
        assert not own or max(own) < SIZE
        self.taken |= own
        self.ranges += [(start, length)] if length else []

    @rule(start=st.integers(0, SIZE - 1), length=st.integers(0, 20))
    def claim(self, start: int, length: int) -> None:
        length = min(length, SIZE - start)
        own = set(range(start, start + length)) - self.taken
        self.space.claim((start, length))
        self.taken |= own
        self.ranges += [(at, 1) for at in sorted(own)]

    @precondition(lambda self: self.ranges)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        start, length = self.ranges.pop(data.draw(st.integers(0, len(self.ranges) - 1)))
        self.space.give(start, length)
        self.taken -= set(range(start, start + length))

    @invariant()
    def free_is_what_is_not_taken_in_as_few_ranges_as_can_be(self) -> None:
        free = [at for start, room in self.space.free for at in range(start, start + room)]
        assert free == sorted(set(range(SIZE)) - self.taken)
        assert self.space.taken == len(self.taken)
        assert all(
            one + room < other
            for (one, room), (other, _) in zip(self.space.free, self.space.free[1:], strict=False)
        )


TestSpace = SpaceModel.TestCase


def test_what_was_never_free_again_is_full() -> None:
    space = Space(4)
    space.take(4)
    with pytest.raises(FullError):
        space.take(1)


def go(layout: Layout, before: Compiled, want: Compiled) -> None:
    """From one configuration to the other, as dataplane/xdp_change.py does."""
    changed = [key for key, entry in want.items() if before.get(key) != entry]
    placed = {key: place(layout, want[key], layout.placed.get(key)) for key in changed}
    overlap_nothing({**layout.placed, **placed})
    for key in changed:
        if key in layout.placed:
            release(layout, layout.placed[key], placed[key])
    for key in before.keys() - want.keys():
        release(layout, layout.placed.pop(key), None)
    layout.placed.update(placed)


def overlap_nothing(placed: Mapping[bytes, Placed]) -> None:
    nodes = [at for own in placed.values() for at in range(own.nodes, own.nodes + own.node_count)]
    hot = [at for own in placed.values() for at in own.hot.values()]
    counts = [own.counts for own in placed.values()]
    flows = [
        at
        for own in placed.values()
        if own.flows.own
        for at in range(own.flows.base, own.flows.base + own.flows.buckets)
    ]
    tables = [
        range(start, start + length)
        for own in placed.values()
        for start, length in ((own.ids, own.ids_length), (own.labels, own.labels_length))
    ]
    slots = {(own.slots, own.slots_length) for own in placed.values() if own.slots_length}
    words = [at for table in (*tables, *(range(at, at + size) for at, size in slots)) for at in table]
    for each in (nodes, hot, counts, flows, words):
        assert len(set(each)) == len(each)


def taken(layout: Layout) -> tuple[int, ...]:
    return tuple(
        space.taken for space in (layout.nodes, layout.words, layout.hot, layout.counts, layout.flows)
    )


def roomy(first: Compiled) -> Layout:
    sizes = sizes_for(first.values(), 1000)
    return Layout(
        type(sizes)(
            nodes=2000,
            words=200_000,
            hot=2000,
            counts=200,
            shared_buckets=sizes.shared_buckets,
            own_buckets=4000,
            listeners=500,
            replies=500,
        )
    )


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.lists(TEXTS, max_size=5))
def test_nothing_is_lost_on_the_way_through_configurations(first: str, others: list[str]) -> None:
    start = inputs(first)
    compiled = compile_listeners(start)
    layout = roomy(compiled)
    go(layout, {}, compiled)
    at_first, standing, before = taken(layout), compiled, start
    for content in [*others, first]:
        before = inputs(content, before=before)
        want = compile_listeners(before)
        go(layout, standing, want)
        standing = want
    assert taken(layout) == at_first
    go(layout, standing, {})
    assert taken(layout) == (0, 0, 0, 0, layout.sizes.shared_buckets)
    assert layout.tables == {}


def changed(before: PlaneInputs, content: str) -> tuple[Layout, Placed, Placed]:
    compiled, want = compile_listeners(before), compile_listeners(inputs(content, before=before))
    layout = roomy(compiled)
    go(layout, {}, compiled)
    key = next(iter(compiled))
    was = layout.placed[key]
    go(layout, compiled, want)
    return layout, was, layout.placed[key]


def test_counters_and_flows_keep_their_places_over_a_change() -> None:
    _, was, now = changed(
        inputs(text(extra="flow_table_size = 100")), text(((1, 2), (3, 1)), extra="flow_table_size = 100")
    )
    assert (now.counts, now.flows) == (was.counts, was.flows)
    assert {label: was.hot[label] for label in now.hot} == now.hot
    assert now.nodes != was.nodes


def test_listeners_with_the_same_nodes_share_a_table() -> None:
    compiled = compile_listeners(inputs(text(listeners=(5684, 5685))))
    layout = roomy(compiled)
    go(layout, {}, compiled)
    assert len({own.slots for own in layout.placed.values()}) == 1
    assert [users for _, users in layout.tables.values()] == [4]


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_the_sizes_that_are_worked_out_are_enough(content: str) -> None:
    compiled = compile_listeners(inputs(content))
    layout = Layout(sizes_for(compiled.values(), 1000))
    go(layout, {}, compiled)


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_a_layout_can_be_read_back(content: str) -> None:
    compiled = compile_listeners(inputs(content))
    layout = roomy(compiled)
    go(layout, {}, compiled)
    again = Layout(layout.sizes)
    slots = {key: own.slots.words if own.slots else b"" for key, own in compiled.items()}
    again.adopt({key: (own, slots[key]) for key, own in layout.placed.items()})
    assert taken(again) == taken(layout)
    assert (again.tables, again.words.free, again.flows.free) == (
        layout.tables,
        layout.words.free,
        layout.flows.free,
    )
