"""The API where the configuration says: opened anew where that changes, and where somebody took its socket away."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Protocol

from pointsman.api.metrics import Figures
from pointsman.api.operator import Operator
from pointsman.api.server import Serving, serving
from pointsman.daemon.events import EventLog, Kind
from pointsman.kernel.errors import KernelError
from pointsman.model import Api

LOOKED_AT_EVERY = 2.0
"""Seconds between looks at the socket's path and the settings."""


class Served(Operator, Protocol):
    """A daemon, as far as its API goes."""

    figures: Figures
    log: EventLog

    @property
    def api_settings(self) -> Api: ...


class Doors:
    """What is open at the moment. Settings that cannot be served leave those of before."""

    def __init__(self, daemon: Served) -> None:
        self._daemon = daemon
        self._settings = daemon.api_settings
        self._refused: Api | None = None
        self._trouble = ""
        self._open = AsyncExitStack()
        self._serves: Serving | None = None

    async def begin(self) -> None:
        """Open at the start: where it cannot be served over TCP, on the unix socket alone; raises KernelError."""
        try:
            await self.open()
        except KernelError as problem:
            if self._settings.tcp is None:
                raise
            self._refused, self._settings = self._settings, replace(self._settings, tcp=None)
            await self.open()
            self._daemon.log.add(Kind.FAILED, f"[api]: {problem}; it is served on the unix socket alone")

    async def open(self) -> None:
        """Raises KernelError."""
        opening = AsyncExitStack()
        self._serves = await opening.enter_async_context(
            serving(self._daemon, self._settings, self._daemon.figures)
        )
        self._open = opening
        self._trouble = ""

    async def close(self) -> None:
        self._serves = None
        await self._open.aclose()

    def renew(self) -> None:
        """Read tokens and certificate again, and try settings again that were refused; what fails is told."""
        self._refused = None
        try:
            if self._serves is not None:
                self._serves.renew()
        except KernelError as problem:
            self._daemon.log.add(
                Kind.FAILED, f"tokens or certificate of the API: {problem}; those of before go on"
            )

    async def keep_open(self) -> None:
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY)
            wanted = self._daemon.api_settings
            if wanted not in (self._settings, self._refused):
                await self._move(wanted)
            elif self._serves is None or self._serves.is_lost:
                await self._open_anew()

    async def _move(self, wanted: Api) -> None:
        before, self._settings = self._settings, wanted
        await self.close()
        try:
            await self.open()
        except KernelError as problem:
            self._settings, self._refused = before, wanted
            self._daemon.log.add(Kind.FAILED, f"[api]: {problem}; it is served as before")
            await self._open_anew()

    async def _open_anew(self) -> None:
        await self.close()
        try:
            await self.open()
        except KernelError as problem:
            if str(problem) != self._trouble:
                self._trouble = str(problem)
                self._daemon.log.add(Kind.FAILED, f"the API: {problem}; tried again and again")
