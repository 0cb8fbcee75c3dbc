"""From single results to a verdict: so many in a row for a change, and how often it changed."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 600.0
"""Seconds that changes are counted for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``healthy`` None: none yet. ``streak`` results in a row were ``leaning``, which is not the verdict.

    ``changed`` are the times of the changes within the window, as of the latest of them; the first verdict is none.
    """

    healthy: bool | None = None
    streak: int = 0
    leaning: bool = False
    since: float | None = None
    changed: tuple[float, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the latest result was as the verdict says."""
        return self.healthy is not None and not self.streak

    def after(self, result: bool, now: float, *, rise: int, fall: int) -> Verdict:  # noqa: FBT001
        """The verdict when one more result is in."""
        if result is self.healthy:
            if not self.streak:
                return self
            return Verdict(self.healthy, 0, result, self.since, self.changed)
        streak = self.streak + 1 if self.streak and self.leaning is result else 1
        if streak < (rise if result else fall):
            return Verdict(self.healthy, streak, result, self.since, self.changed)
        if self.healthy is None:
            return Verdict(result, 0, result, now)
        changed = (*(time for time in self.changed if time > now - WINDOW), now)
        return Verdict(result, 0, result, now, changed)

    def changes(self, now: float) -> int:
        """How often the verdict changed in the window that ends now."""
        return sum(time > now - WINDOW for time in self.changed)
