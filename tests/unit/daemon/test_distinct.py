"""Estimates are as good as they say, forget what is old, and do not depend on order or repetition."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.daemon.distinct import STANDARD_ERROR, Distinct, Window


def estimate(things: list[bytes]) -> int:
    found = Distinct()
    for thing in things:
        found.add(thing)
    return found.estimate()


@given(st.lists(st.binary(max_size=8), max_size=200), st.randoms())
def test_order_and_repetition_change_nothing(things: list[bytes], order: random.Random) -> None:
    again = things * 2
    order.shuffle(again)
    assert estimate(again) == estimate(things)


@given(st.sets(st.binary(min_size=6, max_size=6), max_size=100))
def test_few_are_counted_almost_exactly(things: set[bytes]) -> None:
    assert abs(estimate(list(things)) - len(things)) <= 1 + len(things) // 25


@pytest.mark.parametrize("count", [500, 3_000, 11_000, 60_000])
def test_the_error_is_the_stated_one(count: int) -> None:
    errors = []
    for start in range(6):
        things = [(start * 10**9 + number).to_bytes(6, "big") for number in range(count)]
        errors.append(estimate(things) / count - 1)
    assert max(map(abs, errors)) < 4 * STANDARD_ERROR
    assert any(errors), "an estimate is never exact so often"


@given(st.sets(st.binary(max_size=6)), st.sets(st.binary(max_size=6)))
def test_two_together_are_their_union(some: set[bytes], others: set[bytes]) -> None:
    one, two = Distinct(), Distinct()
    for thing in some:
        one.add(thing)
    for thing in others:
        two.add(thing)
    assert one.estimate(two) == two.estimate(one) == estimate(list(some | others))


def test_a_window_forgets_what_is_older_than_twice_its_half() -> None:
    window = Window(10.0, now=0.0)
    window.add(b"a", 1.0)
    window.add(b"b", 11.0)
    assert window.estimate(12.0) == 2
    assert window.estimate(22.0) == 1
    assert window.estimate(60.0) == 0
