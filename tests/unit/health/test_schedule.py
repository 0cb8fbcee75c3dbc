"""When checks are due."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pointsman.health.schedule import first_due, interval_of, next_due
from pointsman.model import Check, CheckKind

UNIT = st.floats(0, 1, exclude_max=True)


def check(*, interval: float = 2.0, jitter: float = 0.1, fast: float | None = None) -> Check:
    return Check(CheckKind.TCP, interval=interval, jitter=jitter, fast_interval=fast)


def test_checks_that_begin_together_are_spread_over_the_interval() -> None:
    source = random.Random(1)
    dues = sorted(first_due(check(), 100.0, source.random) for _ in range(1000))
    assert dues[0] >= 100.0
    assert dues[-1] < 102.0
    assert max(later - one for one, later in pairwise(dues)) < 0.05


@given(UNIT, st.floats(0, 0.5), st.floats(0.05, 3600))
def test_the_interval_is_off_by_its_jitter_at_most(number: float, jitter: float, interval: float) -> None:
    due = next_due(check(interval=interval, jitter=jitter), 50.0, 50.0, lambda: number, settled=True)
    assert interval * (1 - jitter) * 0.999 <= due - 50.0 <= interval * (1 + jitter) * 1.001


def test_without_jitter_it_is_exact_and_does_not_drift_with_what_a_try_takes() -> None:
    assert next_due(check(jitter=0), 50.0, 50.9, lambda: 0.7, settled=True) == 52.0


def test_what_was_missed_is_not_caught_up_with() -> None:
    assert next_due(check(jitter=0), 50.0, 59.0, lambda: 0.5, settled=True) == 59.0


def test_it_is_faster_while_the_verdict_is_open() -> None:
    both = check(fast=0.5, jitter=0)
    assert interval_of(both, settled=True) == 2.0
    assert interval_of(both, settled=False) == 0.5
    assert interval_of(check(), settled=False) == 2.0
    assert next_due(both, 50.0, 50.1, lambda: 0.5, settled=False) == 50.5
    assert first_due(both, 50.0, lambda: 0.5) == 50.25
