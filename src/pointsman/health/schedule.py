"""When a check is due. Times are in seconds of any one clock; ``random`` gives numbers in [0, 1)."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.model.health import Check

Random = Callable[[], float]


def interval_of(check: Check, *, settled: bool) -> float:
    """The interval for now: the fast one, if there is one, while a verdict is open or about to change."""
    if settled or check.fast_interval is None:
        return check.interval
    return check.fast_interval


def first_due(check: Check, now: float, random: Random) -> float:
    """Somewhere in the interval from now on, so that checks that begin together are spread out."""
    return now + interval_of(check, settled=False) * random()


def next_due(check: Check, due: float, now: float, random: Random, *, settled: bool) -> float:
    """An interval after it was due, more or less by its jitter; never before now, and nothing is caught up with."""
    spread = 1 + check.jitter * (2 * random() - 1)
    return max(now, due + interval_of(check, settled=settled) * spread)
