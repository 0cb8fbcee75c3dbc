from __future__ import annotations

from pointsman.daemon.backoff import CALM, FIRST, LONGEST, Backoff


def test_the_first_repair_is_not_waited_for() -> None:
    assert Backoff().due(10.0) == 0


def test_repairs_in_a_row_wait_longer_and_longer_up_to_a_minute() -> None:
    backoff, now, delays = Backoff(), 0.0, []
    for _ in range(10):
        backoff = backoff.after_repair(now)
        delays.append(backoff.delay)
        now += backoff.due(now)
    assert delays[:4] == [FIRST, 2, 4, 8]
    assert delays[-1] == LONGEST


def test_after_a_calm_time_a_repair_is_a_first_one_again() -> None:
    backoff = Backoff().after_repair(0.0).after_repair(1.0).after_repair(3.0)
    assert backoff.after_repair(3.0 + CALM + 1).delay == FIRST


def test_what_is_due_counts_down() -> None:
    backoff = Backoff().after_repair(100.0)
    assert backoff.due(100.25) == FIRST - 0.25
    assert backoff.due(200.0) == 0
