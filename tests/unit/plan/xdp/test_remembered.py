"""Counting a row of the memory at once finds what looking at each entry finds."""

from __future__ import annotations

from collections import Counter
from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.xdp.remembered import DEADLINE_BITS, HALF, count_remembered

MASK = (1 << DEADLINE_BITS) - 1
TICKS = st.integers(0, (1 << 32) - 1)


def entry(tag: int, label: int, kind: int, deadline: int) -> int:
    return tag << 40 | label << 24 | kind << 22 | deadline & MASK


ENTRIES = st.lists(
    st.tuples(st.integers(1, (1 << 24) - 1), st.integers(1, 0xFFFF), st.integers(0, 3), st.integers(-9, 9)),
    max_size=40,
)


@given(TICKS, ENTRIES, st.integers(0, 5))
def test_it_counts_as_the_programs_judge(
    now: int, drawn: list[tuple[int, int, int, int]], empty: int
) -> None:
    entries = [entry(tag, label, kind, now + left) for tag, label, kind, left in drawn] + [0] * empty
    row = pack(f"<{len(entries)}Q", *entries)
    wanted = Counter((label, kind) for _, label, kind, left in drawn if left > 0)
    assert count_remembered([row, bytes(64), row], now) == {key: 2 * flows for key, flows in wanted.items()}


@given(TICKS)
def test_what_went_round_is_over(now: int) -> None:
    rows = [pack("<Q", entry(1, 1, 0, now + left)) for left in (1, HALF - 1, HALF + 1, MASK)]
    assert [bool(count_remembered([row], now)) for row in rows] == [True, True, False, False]
