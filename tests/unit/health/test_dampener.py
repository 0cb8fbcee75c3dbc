"""The verdict: what it takes to change it, and how often it did."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from pointsman.health.dampener import WINDOW, Verdict

RESULTS = st.lists(st.booleans(), max_size=60)
MANY = st.integers(1, 5)


def after(results: list[bool], *, rise: int, fall: int, every: float = 1.0) -> Verdict:
    verdict = Verdict()
    for number, result in enumerate(results):
        verdict = verdict.after(result, number * every, rise=rise, fall=fall)
    return verdict


def test_nothing_is_known_before_there_are_enough_results() -> None:
    assert Verdict().healthy is None
    assert after([True], rise=2, fall=3).healthy is None
    assert after([True, True], rise=2, fall=3).healthy is True
    assert after([False, False], rise=2, fall=3).healthy is None
    assert after([False] * 3, rise=2, fall=3).healthy is False


def test_one_result_between_begins_the_count_anew() -> None:
    assert after([True, True, False, False, True, False, False], rise=2, fall=3).healthy is True
    assert after([True, True, False, False, False], rise=2, fall=3).healthy is False
    assert after([False, False, False, True, False, True], rise=2, fall=3).healthy is False


def test_it_is_settled_only_while_the_latest_result_agrees() -> None:
    assert not Verdict().settled
    assert after([True, True], rise=2, fall=3).settled
    assert not after([True, True, False], rise=2, fall=3).settled
    assert after([True, True, False, True], rise=2, fall=3).settled


def test_flapping_is_counted_for_ten_minutes() -> None:
    verdict = after([True, False] * 5, rise=1, fall=1, every=10.0)
    assert verdict.changes(90.0) == 9  # the first verdict is no change
    assert verdict.changes(10.0 + WINDOW) == 8
    assert verdict.changes(90.0 + WINDOW) == 0


def test_it_is_since_the_change() -> None:
    verdict = after([True, True, True, False, False, False, False], rise=2, fall=3)
    assert (verdict.healthy, verdict.since) == (False, 5.0)


@given(RESULTS, MANY, MANY)
def test_it_is_what_the_last_long_enough_row_says(results: list[bool], rise: int, fall: int) -> None:
    expected = None
    for value, group in groupby(results):
        if len(list(group)) >= (rise if value else fall):
            expected = value
    assert after(results, rise=rise, fall=fall).healthy is expected


@given(RESULTS, MANY, MANY)
def test_changes_are_those_of_the_verdict(results: list[bool], rise: int, fall: int) -> None:
    verdict, verdicts = Verdict(), []
    for number, result in enumerate(results):
        verdict = verdict.after(result, float(number), rise=rise, fall=fall)
        if verdict.healthy is not None:
            verdicts.append(verdict.healthy)
    changes = sum(one is not other for one, other in pairwise(verdicts))
    assert verdict.changes(float(len(results))) == changes


@given(RESULTS, MANY, MANY)
def test_a_result_as_before_leaves_a_settled_verdict_the_same_value(
    results: list[bool], rise: int, fall: int
) -> None:
    verdict = after(results, rise=rise, fall=fall)
    if verdict.settled:
        assert verdict.healthy is not None
        assert verdict.after(verdict.healthy, 99.0, rise=rise, fall=fall) is verdict


def test_what_is_kept_of_a_node_that_flaps_is_bounded_by_the_window() -> None:
    verdict = after([True, False] * 5000, rise=1, fall=1, every=1.0)
    assert len(verdict.changed) <= WINDOW
