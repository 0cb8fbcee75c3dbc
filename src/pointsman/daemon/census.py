"""How many flows are remembered, counted when somebody asks, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pointsman.daemon.words import explained
from pointsman.dataplane.protocol import FlowCount, FlowKind
from pointsman.kernel.errors import KernelError

EVERY = 5.0
"""Seconds that a count is shown for before the memory is read again."""
REST = 20
"""A count that took long is shown for so many times as long: a twentieth of a processor at most goes into it."""
PATIENCE = 0.2
"""Seconds that whoever asks waits for a new count; then the one before has to do."""


class Census:
    """``read`` is called on ``thread``. ``counts`` None: not known yet; ``problem``: why the last count failed."""

    def __init__(
        self, read: Callable[[], list[FlowCount]], thread: ThreadPoolExecutor, clock: Callable[[], float]
    ) -> None:
        self._read, self._thread, self._clock = read, thread, clock
        self._due = 0.0
        self._reading: asyncio.Future[None] | None = None
        self.counts: list[FlowCount] | None = None
        self.problem = ""

    def begin(self) -> None:
        """Have the flows counted if the last count is old."""
        if self._reading is not None or self._clock() < self._due:
            return
        self._reading = asyncio.ensure_future(self._count())

    async def refresh(self) -> None:
        """The same, and wait a moment for the result."""
        self.begin()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=PATIENCE)

    async def settled(self) -> None:
        """Wait for the count that is under way, if one is."""
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def _count(self) -> None:
        begun = self._clock()
        try:
            self.counts = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: explained(self._read)
            )
            self.problem = ""
        except KernelError as problem:
            self.problem = f"flows cannot be counted: {problem}"
        finally:
            took = self._clock() - begun
            self._due = begun + max(EVERY, REST * took)
            self._reading = None

    def of(self, service: str, node: str) -> int | None:
        """Flows of a node, None where that is not known."""
        if self.counts is None:
            return None
        return sum(
            one.flows
            for one in self.counts
            if service in one.services
            and one.node == node
            and not one.leaving
            and one.kind is not FlowKind.NETWORK
        )
