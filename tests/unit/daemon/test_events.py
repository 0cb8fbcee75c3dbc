from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pointsman.api.documents import Event
from pointsman.daemon.events import KEPT, EventLog, Kind

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"


def test_every_kind_has_its_row_in_the_reference() -> None:
    rows = re.findall(r"^\| `(\w+)`", REFERENCE.read_text(), flags=re.MULTILINE)
    assert rows == [str(kind) for kind in Kind]


def test_events_are_numbered_and_the_last_are_kept() -> None:
    async def case() -> None:
        told: list[Event] = []
        log = EventLog(lambda: 5.0, told.append)
        for index in range(KEPT + 5):
            log.add(Kind.ORDER, f"event {index}", who="uid 0")
        assert [event.number for event in log.after(KEPT)] == list(range(KEPT + 1, KEPT + 6))
        assert len(log.after(0)) == KEPT
        assert told[-1].text == f"event {KEPT + 4}"

    asyncio.run(case())


def test_who_follows_is_told_of_what_was_and_of_what_comes() -> None:
    async def case() -> None:
        log = EventLog(lambda: 5.0, lambda _event: None)
        log.add(Kind.STARTED, "one")
        seen: list[str] = []

        async def follow() -> None:
            async for event in log.follow(0):
                seen.append(event.text)

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        log.add(Kind.APPLIED, "two")
        await asyncio.sleep(0)
        log.add(Kind.STOPPED, "three")
        log.close()
        await asyncio.wait_for(following, 1)
        assert seen == ["one", "two", "three"]

    asyncio.run(case())
