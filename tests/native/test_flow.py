"""flow.h finds, counts and makes room in a bucket as the plain description of one does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import WAYS, Hash, Native
from tests.native.test_jhash import hashed

ANSWERED = 1
CYCLE = 1 << 22
WORDS = st.integers(0, 0xFFFFFFFF)
TAGS = st.integers(1, (1 << 24) - 1)


@dataclass(frozen=True)
class Flow:
    tag: int
    label: int
    kind: int
    deadline: int

    def left(self, now: int) -> int:
        """Ticks to its end; a deadline more than half the clock's cycle away is one that is over."""
        left = (self.deadline - now) % CYCLE
        return left if left < CYCLE // 2 else 0


Bucket = list[Flow | None]

# Few of each, so that a bucket has equals; deadlines from long over to as far off as may be.
AGES = st.one_of(
    st.integers(-9, 9), st.sampled_from([-CYCLE // 2, 1 - CYCLE // 2, CYCLE // 2 - 1, 900, 1000, 13000])
)
CLOCKS = st.one_of(
    WORDS,
    st.integers(-9, 9).map(lambda n: n % (1 << 32)),
    st.integers(CYCLE // 2 - 9, CYCLE // 2 + 9),
    st.integers(CYCLE - 9, CYCLE + 9),
)


@st.composite
def buckets(draw: st.DrawFn) -> tuple[Bucket, int]:
    """A bucket and the time; no tag twice."""
    now = draw(CLOCKS)
    tags = draw(st.lists(TAGS, min_size=WAYS, max_size=WAYS, unique=True))
    flows = (
        Flow(tag, draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 2)), (now + draw(AGES)) % CYCLE)
        for tag in tags
    )
    return [flow if draw(st.integers(0, 7)) else None for flow in flows], now


@st.composite
def crowded_buckets(draw: st.DrawFn) -> tuple[Bucket, int]:
    """A bucket without an empty or expired way."""
    now = draw(CLOCKS)
    tags = draw(st.lists(TAGS, min_size=WAYS, max_size=WAYS, unique=True))
    left = st.integers(1, 9) if draw(st.booleans()) else st.integers(1, CYCLE // 2 - 1)
    return [Flow(tag, 0, draw(st.integers(0, 2)), (now + draw(left)) % CYCLE) for tag in tags], now


def written(native: Native, bucket: Bucket) -> list[int]:
    return [
        native.flow_entry(flow.tag, flow.label, flow.kind, flow.deadline) if flow else 0 for flow in bucket
    ]


def free(bucket: Bucket, now: int, ways: int) -> set[int]:
    return {way for way, flow in enumerate(bucket[:ways]) if not flow or not flow.left(now)}


def evictable(bucket: Bucket, now: int, ways: int) -> dict[int, int]:
    """Ways of live flows that make room, and what is left of each."""
    return {way: flow.left(now) for way, flow in enumerate(bucket[:ways]) if flow and flow.kind != ANSWERED}


@given(TAGS, st.integers(0, 0xFFFF), st.integers(0, 3), WORDS)
def test_an_entry_gives_back_what_was_put_in(
    native: Native, tag: int, label: int, kind: int, deadline: int
) -> None:
    entry = native.flow_entry(tag, label, kind, deadline)
    assert native.flow_tag(entry) == tag
    assert native.flow_label(entry) == label
    assert native.flow_class(entry) == kind
    assert native.flow_deadline(entry) == deadline % CYCLE


@given(st.integers(0, (1 << 64) - 1))
def test_ticks_are_of_2_to_the_28_nanoseconds(native: Native, nanoseconds: int) -> None:
    assert native.flow_ticks(nanoseconds) == (nanoseconds >> 28) % (1 << 32)


@given(CLOCKS, AGES)
def test_a_flow_lives_up_to_its_deadline_also_over_the_clocks_end(native: Native, now: int, age: int) -> None:
    entry = native.flow_entry(1, 0, 0, (now + age) % (1 << 32))
    assert native.flow_left(entry, now) == max(age, 0)


@given(buckets(), st.data())
def test_a_flow_is_found_by_its_tag_live_or_over(
    native: Native, case: tuple[Bucket, int], data: st.DataObject
) -> None:
    bucket, _ = case
    held = [flow.tag for flow in bucket if flow]
    tag = data.draw(st.one_of(TAGS, *([st.sampled_from(held)] if held else [])))
    way = native.find(written(native, bucket), tag)
    assert way == next((way for way, flow in enumerate(bucket) if flow and flow.tag == tag), None)


@given(buckets(), st.integers(1, WAYS))
def test_a_new_flow_takes_an_empty_or_expired_way_while_there_is_one(
    native: Native, case: tuple[Bucket, int], ways: int
) -> None:
    bucket, now = case
    way, worth = native.victim(written(native, bucket), now, ways)
    if free(bucket, now, ways):
        assert way in free(bucket, now, ways)
        assert worth == 0


@given(crowded_buckets(), st.integers(1, WAYS))
def test_else_the_unanswered_or_closing_flow_nearest_to_its_end_makes_room(
    native: Native, case: tuple[Bucket, int], ways: int
) -> None:
    bucket, now = case
    way, worth = native.victim(written(native, bucket), now, ways)
    left = evictable(bucket, now, ways)
    if left:
        assert way is not None
        assert left.get(way) == worth == min(left.values())


@given(crowded_buckets(), st.integers(1, WAYS))
def test_where_every_flow_is_answered_none_makes_room(
    native: Native, case: tuple[Bucket, int], ways: int
) -> None:
    bucket, now = case
    if not evictable(bucket, now, ways):
        assert native.victim(written(native, bucket), now, ways)[0] is None


def test_a_bucket_that_makes_no_room_is_never_preferred_to_one_that_does(native: Native) -> None:
    full = [native.flow_entry(way + 1, 0, ANSWERED, 100) for way in range(WAYS)]
    roomy = [*full[1:], native.flow_entry(9, 0, 0, CYCLE // 2 - 1)]
    assert native.victim(full, 0, WAYS)[1] > native.victim(roomy, 0, WAYS)[1]


def test_an_empty_bucket_is_free_at_any_time(native: Native) -> None:
    for now in (0, CYCLE // 2, CYCLE // 2 + 1, CYCLE - 1, CYCLE):
        assert native.victim([0] * WAYS, now, WAYS) == (0, 0)


@given(WORDS, WORDS, st.integers(0, (1 << 64) - 1))
def test_a_tag_is_never_that_of_an_empty_way(native: Native, b: int, c: int, salt: int) -> None:
    assert 1 <= native.flow_place(Hash(b, c), salt).tag < 1 << 24


@given(WORDS, TAGS, st.integers(1, 1 << 30))
def test_a_bucket_is_one_of_a_pair_in_a_table_of_any_size(
    native: Native, pair: int, tag: int, pairs: int
) -> None:
    bucket = native.flow_bucket(pair, tag, pairs)
    assert bucket >> 1 == pair * pairs >> 32
    assert bucket & 1 == tag & 1


@given(st.integers(0, (1 << 64) - 1), WORDS)
def test_a_swept_entry_is_kept_just_as_long_as_it_lives(native: Native, entry: int, now: int) -> None:
    left = ((entry & 0x3FFFFF) - now) & 0x3FFFFF
    assert native.flow_swept(entry, now) == (entry if 0 < left < 1 << 21 else 0)


def test_clients_are_spread_over_buckets_and_tags(native: Native) -> None:
    buckets = 256
    clients = [(IPv4Address("198.51.100.0") + n, port) for n in range(16) for port in range(1024, 5120)]
    places = [native.flow_place(hashed(native, *client, seed=7), 11) for client in clients]
    for kind in (
        Counter(native.flow_bucket(place.pair, place.tag, buckets // 2) for place in places),
        Counter(place.tag % buckets for place in places),
        Counter(place.tag >> 16 for place in places),
    ):
        even = len(clients) / buckets
        chi_squared = sum((kind[n] - even) ** 2 / even for n in range(buckets))
        assert chi_squared < 2 * buckets
    pairs = Counter((place.pair >> 24, place.tag) for place in places)
    assert max(pairs.values()) <= 3
