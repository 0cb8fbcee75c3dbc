"""Flows are counted when somebody asks, not too often, and nobody waits long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from pointsman.daemon.census import EVERY, REST, Census
from pointsman.dataplane.protocol import FlowCount, FlowKind
from pointsman.kernel.errors import KernelError

ROWS = [
    FlowCount(("a", "b"), "n1", FlowKind.NEW, 3),
    FlowCount(("a", "b"), "n1", FlowKind.ANSWERED, 4),
    FlowCount(("a",), "n1", FlowKind.NETWORK, 9),
    FlowCount(("a",), "n1", FlowKind.NEW, 50, leaving=True),
]


class Source:
    """Where flows are read: ``seconds`` is how long it takes on the case's clock."""

    def __init__(self) -> None:
        self.now, self.reads, self.seconds = 100.0, 0, 0.0
        self.problem: str | None = None
        self.gate = threading.Event()
        self.gate.set()

    def read(self) -> list[FlowCount]:
        self.gate.wait()
        self.reads += 1
        self.now += self.seconds
        if self.problem is not None:
            raise KernelError(self.problem)
        return ROWS


def run(case: Callable[[Source, Census], Awaitable[None]]) -> None:
    async def with_thread() -> None:
        source = Source()
        with ThreadPoolExecutor(1) as thread:
            await case(source, Census(source.read, thread, lambda: source.now))

    asyncio.run(with_thread())


def test_it_is_unknown_before_the_first_count_and_0_for_who_has_none() -> None:
    async def case(_: Source, census: Census) -> None:
        assert census.of("a", "n1") is None
        await census.refresh()
        assert (census.of("a", "n1"), census.of("b", "n1"), census.of("a", "n2")) == (7, 7, 0)

    run(case)


def test_it_is_read_again_when_it_is_old_and_asked_for() -> None:
    async def case(source: Source, census: Census) -> None:
        for moment, reads in ((0.0, 1), (EVERY - 1, 1), (EVERY, 2)):
            source.now = 100.0 + moment
            await census.refresh()
            assert source.reads == reads

    run(case)


def test_one_that_takes_long_is_made_more_seldom() -> None:
    async def case(source: Source, census: Census) -> None:
        source.seconds = 2.0
        await census.refresh()
        for moment, reads in ((REST * 2.0 - 1, 1), (REST * 2.0, 2)):
            source.now = 100.0 + moment
            await census.refresh()
            assert source.reads == reads

    run(case)


def test_nobody_waits_for_one_that_does_not_end() -> None:
    async def case(source: Source, census: Census) -> None:
        source.gate.clear()
        await asyncio.wait_for(census.refresh(), 5)
        assert census.counts is None
        source.gate.set()
        await census.settled()
        assert census.counts == ROWS

    run(case)


def test_a_problem_is_kept_until_it_works_again() -> None:
    async def case(source: Source, census: Census) -> None:
        source.problem = "no table"
        await census.refresh()
        assert census.problem == "flows cannot be counted: no table"
        source.problem, source.now = None, source.now + EVERY
        await census.refresh()
        assert (census.problem, census.counts) == ("", ROWS)

    run(case)
