"""The order of a weighted round-robin."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.turns import turns


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12))
def test_every_round_has_exactly_the_weights(weights: list[int]) -> None:
    order = turns(weights)
    counts = Counter(order)
    assert all(counts[i] * sum(weights) == weights[i] * len(order) for i in range(len(weights)))


def test_rounds_are_in_lowest_terms() -> None:
    assert len(turns([100, 50, 50])) == 4
    assert turns([7]) == [0]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_turns_of_one_member_are_spread(weights: list[int]) -> None:
    """No two of them are further apart than twice what is even, nor one part of it."""
    order = turns(weights)
    for member in range(len(weights)):
        places = [place for place, index in enumerate(order) if index == member]
        even = len(order) / len(places)
        for before, after in pairwise(places):
            assert after - before <= even + len(weights)
