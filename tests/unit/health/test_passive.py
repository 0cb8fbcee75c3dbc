"""Silence under traffic is a sign, an answer ends it, and a silent node is tried again ever more seldom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.health.passive import (
    EVERY,
    FIRST_HOLD,
    LONGEST_HOLD,
    MUCH,
    SLIDE,
    Hold,
    Reading,
    Silent,
    Since,
    holds_after,
    signs,
    since_heard,
)

N1 = ("s", "n1")
STEPS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 3)), max_size=40)
"""What is sent and answered between readings."""


def run(steps: list[tuple[int, int]], every: float = EVERY) -> list[Silent | None]:
    """The sign after each reading."""
    since: dict[tuple[str, str], Since] = {}
    sent = answers = 0
    found: list[Silent | None] = []
    for turn, (more, answered) in enumerate([(0, 0), *steps]):
        sent, answers = sent + more, answers + answered
        readings = {N1: Reading(sent, answers)}
        since = since_heard(since, readings, turn * every)
        found.append(signs(since, readings, turn * every).get(N1))
    return found[1:]


@given(STEPS)
def test_a_node_that_answers_is_no_sign_at_that_reading(steps: list[tuple[int, int]]) -> None:
    for (_, answered), sign in zip(steps, run(steps), strict=True):
        assert not (answered and sign)


@given(st.lists(st.integers(MUCH, 100), min_size=1, max_size=20))
def test_a_node_that_is_sent_much_and_answers_nothing_is(sent: list[int]) -> None:
    found = run([(more, 0) for more in sent])
    assert found[0] == Silent(sent[0], EVERY)
    assert found[-1] == Silent(sum(sent), EVERY * len(sent))


@given(STEPS)
def test_a_sign_is_never_of_fewer_packets_or_less_time(steps: list[tuple[int, int]]) -> None:
    for sign in run(steps):
        assert sign is None or (sign.packets >= MUCH and sign.seconds >= EVERY)


@given(st.lists(st.integers(0, (MUCH - 1) // int(SLIDE / EVERY + 2)), max_size=60))
def test_few_packets_are_none_however_long_it_lasts(sent: list[int]) -> None:
    assert run([(more, 0) for more in sent]) == [None] * len(sent)


def test_few_packets_that_add_up_in_a_minute_are() -> None:
    assert run([(7, 0)] * 3) == [None, None, Silent(21, 3 * EVERY)]


def test_one_who_looks_seldom_sees_it_too() -> None:
    assert run([(MUCH, 0)], every=3600.0) == [Silent(MUCH, 3600.0)]


def test_counters_that_begin_anew_say_nothing() -> None:
    since = since_heard({N1: Since(Reading(1000, 9), 0.0)}, {N1: Reading(50, 9)}, 9.0)
    assert signs(since, {N1: Reading(50, 9)}, 9.0) == {}


def test_a_silent_node_is_down_twice_as_long_each_time() -> None:
    holds: dict[tuple[str, str], Hold] = {}
    now, lengths = 0.0, []
    for _ in range(8):
        holds = holds_after(holds, [N1], [], now)
        lengths.append(holds[N1].seconds)
        assert holds_after(holds, [N1], [], now + 1) == holds, "a sign while it is down makes it no longer"
        assert holds_after(holds, [], [N1], now + 1) == holds, "nor does a late answer make it shorter"
        now = holds[N1].until + 6
    assert lengths == [30, 60, 120, 240, 480, 600, 600, 600]


def test_one_that_was_heard_of_begins_anew() -> None:
    holds = holds_after({N1: Hold(10.0, LONGEST_HOLD)}, [], [N1], 11.0)
    assert holds == {}
    assert holds_after(holds, [N1], [], 20.0) == {N1: Hold(20.0 + FIRST_HOLD, FIRST_HOLD)}
