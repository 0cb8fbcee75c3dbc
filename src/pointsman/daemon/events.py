"""What happened, in order: the last events are kept, and whoever follows is told of later ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any

from pointsman.api.documents import Event

KEPT = 1000


class Kind(StrEnum):
    """Words of events; docs/reference/events.md has a row for each."""

    STARTED = "started"
    STOPPED = "stopped"
    APPLIED = "applied"
    REFUSED = "refused"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"
    ORDER = "order"
    ORDER_ENDED = "order_ended"
    NODE_STATE = "node_state"
    SERVICE_STATE = "service_state"
    UNTRIED = "untried"
    SIGN = "sign"
    REPAIRED = "repaired"
    FAILED = "failed"


class EventLog:
    """Of this process alone; numbers begin anew with the daemon. To be used from its loop's thread."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[Event], None]) -> None:
        self._clock, self._tell = clock, tell
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._number = 0
        self._news = asyncio.Event()
        self._over = False

    def add(
        self, kind: Kind, text: str, *, service: str = "", node: str = "", who: str = "", **more: Any
    ) -> None:
        self._number += 1
        event = Event(
            number=self._number,
            at=self._clock(),
            kind=kind,
            service=service,
            node=node,
            who=who,
            text=text,
            more=more,
        )
        self._kept.append(event)
        self._tell(event)
        self._wake()

    def close(self) -> None:
        """End those who follow."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def after(self, number: int) -> list[Event]:
        return [event for event in self._kept if event.number > number]

    async def follow(self, number: int) -> AsyncIterator[Event]:
        """Events behind ``number`` as they come; who is slower than they come misses some of them."""
        while True:
            news = self._news
            for event in self.after(number):
                number = event.number
                yield event
            if self._over:
                return
            if not self.after(number):
                await news.wait()
