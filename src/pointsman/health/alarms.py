"""Many times to be called at, by one timer of the loop."""

from __future__ import annotations

import heapq
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from itertools import count

TICK = 0.005
"""Seconds between looks at what is due: what falls due in between is done together."""

STALL = 0.2
"""Seconds by which a look is late where this process did not get to run."""

LONGEST_PAUSE = 1.0


class Alarm:
    """A time that is set; ``cancel`` makes it void."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def ring(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Alarms:
    """Times are the loop's.

    The loop handles what has arrived before its timers, so an answer that waited for a busy process is in time. Where
    this process stood still, what is due waits as long again: conversations of several steps have lost that time too.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = count()  # so that alarms are never compared
        self._timer: TimerHandle | None = None
        self._paused = False

    def set(self, when: float, call: Callable[[], None]) -> Alarm:
        """Call at that time, or up to a tick later."""
        alarm = Alarm(call)
        heapq.heappush(self._heap, (when, next(self._numbers), alarm))
        if self._timer is None or (when < self._timer.when() - TICK and not self._paused):
            self._arm()
        return alarm

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._loop.call_at(max(self._heap[0][0], self._loop.time() + TICK), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = now - self._heap[0][0] if self._heap else 0.0
        self._paused = late > STALL and not self._paused
        if self._paused:
            self._timer = self._loop.call_at(now + min(late, LONGEST_PAUSE), self._tick)
            return
        try:
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2].ring()
        finally:
            self._arm()  # also where a call has failed
