"""Server-sent events (HTML Living Standard, 9.2): each with its number, and a comment where nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from pointsman.api.documents import Event
from pointsman.api.route import EVENT_STREAM

KEEP_ALIVE = 15.0
QUEUE = 1000
"""Events that a caller may be behind; one that does not read is disconnected, and asks again by its last number."""


def encoded(event: Event) -> bytes:
    """One event of the stream; JSON has no line breaks of its own."""
    return f"id: {event.number}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()


class EventStream:
    """The answer that ends with the caller, with the daemon, or when the caller is too far behind."""

    def __init__(
        self, events: AsyncIterator[Event], *, keep_alive: float = KEEP_ALIVE, queue: int = QUEUE
    ) -> None:
        self._events = events
        self._keep_alive = keep_alive
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(queue + 1)
        self._room = queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        headers = [
            (b"content-type", EVENT_STREAM.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        parts = [asyncio.create_task(part) for part in (self._take(), self._give(send), _gone(receive))]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            results = await asyncio.gather(*parts, return_exceptions=True)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _take(self) -> None:
        """Read the daemon's events at once, whatever the caller does; end where it is too far behind."""
        async for event in self._events:
            if self._queue.qsize() >= self._room:
                return
            self._queue.put_nowait(event)
        self._queue.put_nowait(None)
        await asyncio.Event().wait()  # for the caller to read what is left

    async def _give(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        while True:
            try:
                async with asyncio.timeout(self._keep_alive):  # wait_for of 3.11 may lose a cancellation
                    event = await self._queue.get()
            except TimeoutError:
                body = b": keep-alive\n\n"
            else:
                if event is None:
                    await send({"type": "http.response.body", "body": b""})
                    return
                body = encoded(event)
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
