"""bucket.h takes tokens as a bucket does that is filled up with time."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Native

SECOND = 1_000_000_000
UNIT = 16
"""Parts of a nanosecond."""


def price(rate: int) -> int:
    return max(1, round(Fraction(UNIT * SECOND, 4 * rate)))


def taken(native: Native, rate: int, burst: int, packets: Sequence[tuple[int, int]]) -> list[bool]:
    bucket, clock, found = ctypes.c_uint64(), 10 * SECOND, []
    for passed, quarters in packets:
        clock += passed
        found.append(
            bool(
                native.bucket_take(ctypes.byref(bucket), price(rate), burst * SECOND * UNIT, quarters, clock)
            )
        )
    return found


PACKETS = st.lists(st.tuples(st.integers(0, SECOND), st.sampled_from([1, 4])), max_size=60)


@given(st.integers(1, 1000), st.integers(1, 10), PACKETS)
def test_a_bucket_is_the_textbooks(
    native: Native, rate: int, burst: int, packets: list[tuple[int, int]]
) -> None:
    level, deep, expected = burst * SECOND * UNIT, burst * SECOND * UNIT, []
    for passed, quarters in packets:
        level = min(deep, level + passed * UNIT)
        cost = price(rate) * quarters
        expected.append(level >= cost)
        if level >= cost:
            level -= cost
    assert taken(native, rate, burst, packets) == expected


def test_a_full_bucket_lets_its_burst_pass_and_then_the_rate(native: Native) -> None:
    found = taken(native, 50, 2, [(0, 4)] * 120)
    assert found.count(True) == 100
    found = taken(native, 50, 2, [(0, 4)] * 120 + [(SECOND, 4)] + [(0, 4)] * 80)
    assert found.count(True) == 150


def test_no_budget_lets_everything_pass(native: Native) -> None:
    bucket = ctypes.c_uint64()
    assert all(native.bucket_take(ctypes.byref(bucket), 0, 0, 4, 1) for _ in range(9))
    assert bucket.value == 0
