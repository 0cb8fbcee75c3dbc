"""Signs that a node is in trouble, from what passes anyway: it is sent much, and sends nothing back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

EVERY = 5.0
"""Seconds between readings; also the shortest silence that is a sign."""
MUCH = 20
"""Packets without any answer that are a sign."""
SLIDE = 60.0
"""Seconds within which so many must have been sent."""
FIRST_HOLD, LONGEST_HOLD = 30.0, 600.0
"""Seconds that a silent node is down; each time that it is silent again at once, twice as long."""

Key = tuple[str, str]
"""Service and node."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A node's counters: packets that were sent to it, and packets that came from it."""

    sent: int
    answers: int


@dataclass(frozen=True, slots=True)
class Since:
    """A node's counters at a time since which it has not been heard of."""

    reading: Reading
    at: float


@dataclass(frozen=True, slots=True)
class Silent:
    """The sign: so many packets in so many seconds, and no answer."""

    packets: int
    seconds: float

    def __str__(self) -> str:
        return f"sent {self.packets} packets in {self.seconds:.0f} s, answered nothing"


@dataclass(frozen=True, slots=True)
class Hold:
    """A silent node is taken for down until then; ``seconds`` is for how long that is."""

    until: float
    seconds: float


def since_heard(before: Mapping[Key, Since], readings: Mapping[Key, Reading], now: float) -> dict[Key, Since]:
    """Since when nothing has been heard of nodes, with one reading more."""
    return {key: _since(before.get(key), reading, now) for key, reading in readings.items()}


def _since(before: Since | None, reading: Reading, now: float) -> Since:
    if before is None:
        return Since(reading, now)
    sent = reading.sent - before.reading.sent
    # Counters that fell have begun anew.
    if sent < 0 or reading.answers != before.reading.answers:
        return Since(reading, now)
    return Since(reading, now) if sent < MUCH and now - before.at > SLIDE else before


def signs(since: Mapping[Key, Since], readings: Mapping[Key, Reading], now: float) -> dict[Key, Silent]:
    """The nodes that are silent by the newest readings, which ``since`` has taken in."""
    found: dict[Key, Silent] = {}
    for key, reading in readings.items():
        known = since.get(key)
        if known is not None and reading.sent - known.reading.sent >= MUCH and now - known.at >= EVERY:
            found[key] = Silent(reading.sent - known.reading.sent, now - known.at)
    return found


def holds_after(
    before: Mapping[Key, Hold], silent: Iterable[Key], heard: Iterable[Key], now: float
) -> dict[Key, Hold]:
    """Who is to be down until when; what is over is kept until the node is heard of, as the next one is longer."""
    well = set(heard)
    found = {key: hold for key, hold in before.items() if hold.until > now or key not in well}
    for key in silent:
        hold = found.get(key)
        if hold is None:
            found[key] = Hold(now + FIRST_HOLD, FIRST_HOLD)
        elif hold.until <= now:
            seconds = min(2 * hold.seconds, LONGEST_HOLD)
            found[key] = Hold(now + seconds, seconds)
    return found
