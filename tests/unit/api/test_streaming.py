"""Server-sent events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from tests.unit.api.conftest import Asking, Daemon

from pointsman.api import app as app_module
from pointsman.api.client import Client, DaemonGoneError, DaemonRefusedError, read_events
from pointsman.api.documents import Event
from pointsman.api.streaming import EventStream, encoded

STREAM = "/v1/events/stream"
Message = MutableMapping[str, Any]


def event(number: int, text: str = "t") -> Event:
    return Event(number=number, at=1.0, kind="order", text=text)


async def never() -> Message:
    await asyncio.Event().wait()
    return {}


async def numbered(count: int, *, then_wait: bool = False) -> AsyncIterator[Event]:
    for number in range(1, count + 1):
        yield event(number)
    if then_wait:
        await asyncio.Event().wait()


def test_an_event_is_its_number_kind_and_data_on_one_line() -> None:
    lines = encoded(event(7, "two\nlines")).decode().split("\n")
    assert lines[:2] == ["id: 7", "event: order"]
    assert (len(lines), lines[3:]) == (5, ["", ""])
    assert list(read_events(iter(lines))) == [event(7, "two\nlines")]


def test_comments_and_other_fields_are_left_out_by_the_reader() -> None:
    lines = [": keep-alive", "", "retry: 3", "", *encoded(event(1)).decode().split("\n")]
    assert [one.number for one in read_events(iter(lines))] == [1]


def test_what_is_no_event_ends_the_reading_in_one_line() -> None:
    with pytest.raises(DaemonGoneError, match="does not understand"):
        list(read_events(iter(["data: {}", ""])))


def test_the_stream_ends_with_the_events(ask: Asking) -> None:
    for _ in range(3):
        ask.operator.happen("order", "drain")
    ask.operator.stopped.set()
    answer = ask("GET", f"{STREAM}?after=1")
    assert answer.headers["content-type"] == "text/event-stream"
    assert [one.number for one in read_events(iter(answer.text.split("\n")))] == [2, 3]


def test_the_last_events_id_goes_before_the_query(ask: Asking) -> None:
    for _ in range(3):
        ask.operator.happen("order", "drain")
    ask.operator.stopped.set()
    answer = ask("GET", f"{STREAM}?after=0", headers={"last-event-id": "2"})
    assert [one.number for one in read_events(iter(answer.text.split("\n")))] == [3]
    assert ask("GET", STREAM, headers={"last-event-id": "x"}).status_code == 422


def test_a_number_of_a_daemon_before_is_answered_with_all_events_of_this_one(ask: Asking) -> None:
    ask.operator.happen("order", "drain")
    ask.operator.stopped.set()
    answer = ask("GET", STREAM, headers={"last-event-id": "500"})
    assert [one.number for one in read_events(iter(answer.text.split("\n")))] == [1]


def test_where_nothing_happens_there_are_comments() -> None:
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def run() -> None:
        stream = EventStream(numbered(1, then_wait=True), keep_alive=0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream({}, never, send), 0.4)

    asyncio.run(run())
    assert sent.count(b": keep-alive\n\n") >= 3
    assert sum(body.startswith(b"id: 1") for body in sent) == 1


def test_a_caller_that_does_not_read_is_left_when_its_queue_is_full() -> None:
    bodies = 0

    async def stuck(message: Message) -> None:
        nonlocal bodies
        bodies += message["type"] == "http.response.body"
        if bodies:
            await asyncio.Event().wait()

    async def run() -> int:
        stream = EventStream(numbered(10_000, then_wait=True), queue=10)
        await asyncio.wait_for(stream({}, never, stuck), 5)
        return stream._queue.qsize()

    assert asyncio.run(run()) == 10


def test_a_caller_that_leaves_ends_the_daemons_iteration() -> None:
    ended = False

    async def events() -> AsyncIterator[Event]:
        nonlocal ended
        try:
            await asyncio.Event().wait()
            yield event(1)
        finally:
            ended = True

    async def send(_: Message) -> None:
        return

    async def left() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(asyncio.wait_for(EventStream(events())({}, left, send), 5))
    assert ended


def test_a_failure_in_the_daemon_is_not_swallowed() -> None:
    async def events() -> AsyncIterator[Event]:
        yield event(1)
        raise RuntimeError("broken")

    async def send(_: Message) -> None:
        return

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(asyncio.wait_for(EventStream(events())({}, never, send), 5))


def test_more_streams_than_there_may_be_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "MOST_STREAMS", 0)
    with pytest.raises(DaemonRefusedError, match="follow the events already"):
        next(client.follow())


def test_events_arrive_as_they_happen_until_the_daemon_stops(daemon: Daemon, client: Client) -> None:
    daemon.does(lambda: daemon.operator.happen("order", "first"))
    found: list[str] = []
    first = threading.Event()

    def follow() -> None:
        for one in client.follow():
            found.append(one.text)
            first.set()

    following = threading.Thread(target=follow)
    following.start()
    assert first.wait(10)
    daemon.does(lambda: daemon.operator.happen("order", "second"))
    daemon.does(daemon.operator.stopped.set)
    following.join(10)
    assert found == ["first", "second"]
