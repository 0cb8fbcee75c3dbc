"""One timer for all that is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pointsman.health.alarms import Alarms


def rung(story: Callable[[Alarms, list[int]], None], seconds: float = 0.2) -> list[int]:
    """What rings within so many seconds of what the story sets."""

    async def run() -> list[int]:
        loop, found = asyncio.get_running_loop(), list[int]()
        loop.set_exception_handler(lambda *_: found.append(0))
        alarms = Alarms(loop)
        story(alarms, found)
        await asyncio.sleep(seconds)
        alarms.close()
        return found

    return asyncio.run(run())


def test_alarms_ring_in_their_order_unless_cancelled() -> None:
    def story(alarms: Alarms, found: list[int]) -> None:
        now = time.monotonic()
        alarms.set(now + 0.06, lambda: found.append(2))
        alarms.set(now + 0.03, lambda: found.append(1))
        alarms.set(now + 0.04, lambda: found.append(9)).cancel()
        alarms.set(now + 9, lambda: found.append(3))

    assert rung(story) == [1, 2]


def test_the_others_ring_where_one_has_failed() -> None:
    def fail() -> None:
        raise RuntimeError

    def story(alarms: Alarms, found: list[int]) -> None:
        alarms.set(time.monotonic(), fail)
        alarms.set(time.monotonic(), lambda: found.append(1))

    assert rung(story) == [0, 1]


def test_after_a_stall_the_loop_has_time_before_anything_is_late() -> None:
    """A time-out that is due, and an answer in two steps, of which the second could not be before the stall ended."""

    def story(alarms: Alarms, found: list[int]) -> None:
        loop = asyncio.get_running_loop()
        alarms.set(time.monotonic() + 0.05, lambda: found.append(9))
        loop.call_later(0.01, time.sleep, 0.5)
        loop.call_later(0.02, loop.call_later, 0.05, found.append, 1)

    assert rung(story, 1.5) == [1, 9]
