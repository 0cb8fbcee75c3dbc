"""bpf/lib/translation.h: the state of a full-nat port."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Native

from pointsman.plan.xdp.abi import TRANSLATION_LIVE

CLIENT_ENDED, NODE_ENDED, CLOSING_TICKS, CLAIM_TICKS = 2, 4, 226, 8
TICK = (1 << 28) / 1e9
"""Seconds."""

NOW = st.integers(0, 2**31)
STATE = st.integers(0, 2**64 - 1)
TICKS = st.integers(1, 1 << 20)


@given(state=STATE, now=NOW)
def test_a_port_is_free_or_not_and_only_then_live(native: Native, state: int, now: int) -> None:
    assert bool(native.translation_is_free(state, now)) == (state >> 32 <= now)
    if native.translation_is_live(state, now):
        assert not native.translation_is_free(state, now)
        assert state & TRANSLATION_LIVE


@given(state=STATE, now=NOW)
def test_a_claimed_port_is_taken_but_nobodys_yet(native: Native, state: int, now: int) -> None:
    claimed = native.translation_claimed(state, now)
    assert not native.translation_is_free(claimed, now)
    assert not native.translation_is_live(claimed, now)
    assert not native.translation_is_same(claimed, state)
    assert native.translation_is_free(claimed, now + CLAIM_TICKS)


@given(state=STATE, now=NOW, ticks=TICKS)
def test_a_claim_that_is_carried_out_is_live_for_so_long(
    native: Native, state: int, now: int, ticks: int
) -> None:
    claimed = native.translation_claimed(state, now)
    live = native.translation_heard(claimed, now, ticks, 0, 1)
    assert native.translation_is_same(claimed, live)
    assert native.translation_is_live(live, now + ticks - 1)
    assert native.translation_is_free(live, now + ticks)


@given(now=NOW, ticks=TICKS, ends=st.lists(st.sampled_from([0, CLIENT_ENDED, NODE_ENDED]), max_size=6))
def test_what_ended_on_both_sides_is_kept_for_a_minute(
    native: Native, now: int, ticks: int, ends: list[int]
) -> None:
    state = native.translation_heard(native.translation_claimed(0, now), now, ticks, 0, 1)
    for end in ends:
        state = native.translation_heard(state, now, ticks, end, 0)
    both = {CLIENT_ENDED, NODE_ENDED} <= set(ends)
    assert (state >> 32) - now == (CLOSING_TICKS if both else ticks)
    opened = native.translation_heard(state, now, ticks, 0, 1)
    assert opened & 0xFF == TRANSLATION_LIVE
    assert (opened >> 32) - now == ticks


def test_a_minute_is_never_shorter() -> None:
    assert (CLOSING_TICKS - 1) * TICK > 60


@given(entry=STATE)
def test_flows_load_their_node_until_they_close(native: Native, entry: int) -> None:
    assert bool(native.flow_counts(entry)) == (entry != 0 and entry >> 22 & 3 < 2)
