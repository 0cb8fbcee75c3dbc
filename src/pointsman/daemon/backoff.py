"""How long to wait before repairing again what others keep breaking."""

from __future__ import annotations

from dataclasses import dataclass

FIRST, LONGEST = 1.0, 60.0
CALM = 120.0
"""Seconds without a repair after which the next one is a first one."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """When something was last repaired, and how long to wait then; seconds on a clock that nobody sets."""

    last: float | None = None
    delay: float = 0.0

    def after_repair(self, now: float) -> Backoff:
        if self.last is None or now - self.last > CALM:
            return Backoff(now, FIRST)
        return Backoff(now, min(max(self.delay, FIRST) * 2, LONGEST))

    def due(self, now: float) -> float:
        """Seconds from now until a repair may be done."""
        return 0.0 if self.last is None else max(0.0, self.last + self.delay - now)
