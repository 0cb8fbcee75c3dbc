"""What the loop does when it is due; a step that fails is tried again later, and the loop goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pointsman.api.operator import RefusedError
from pointsman.daemon.events import EventLog, Kind
from pointsman.daemon.words import TROUBLE, line

FIRST, LONGEST = 5.0, 60.0
"""Seconds until a failed step is tried again; doubled each time."""


@dataclass(slots=True)
class Step:
    """``due`` says when there is something to do, None for not by the passing of time; times are on one clock."""

    what: str
    due: Callable[[], float | None]
    act: Callable[[], Awaitable[None]]
    again_at: float = 0.0
    delay: float = 0.0

    def due_at(self) -> float | None:
        due = self.due()
        return None if due is None else max(due, self.again_at)


def next_due(steps: Sequence[Step]) -> float:
    """When something is due next; one step at least is always to come."""
    return min(due for step in steps if (due := step.due_at()) is not None)


async def take(steps: Sequence[Step], log: EventLog, clock: Callable[[], float]) -> None:
    """Take each step that does not wait after a failure."""
    for step in steps:
        if clock() < step.again_at:
            continue
        try:
            await step.act()
        except (*TROUBLE, RefusedError) as problem:
            step.delay = min(max(FIRST, step.delay * 2), LONGEST)
            step.again_at = clock() + step.delay
            log.add(Kind.FAILED, f"{step.what}: {line(problem)}; tried again in {step.delay:.0f} s")
        else:
            step.delay = 0.0
