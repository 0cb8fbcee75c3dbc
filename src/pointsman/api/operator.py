"""What the API can ask of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from pointsman.api.documents import (
    Applied,
    ApplyRequest,
    Drained,
    Event,
    FlowRow,
    Kept,
    Order,
    OrderRequest,
    ReplaceRequest,
    Status,
)


class RefusedError(Exception):
    """What was asked cannot be done; ``status`` is HTTP's: 404 no such thing, 409 not now, 422 mistakes."""

    def __init__(self, detail: str, *, status: int = 409, errors: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.detail, self.status, self.errors = detail, status, errors


class Operator(Protocol):
    """``who`` is whoever asks, for the log: ``uid 0``, ``token ci``. Every method may raise RefusedError."""

    async def status(self) -> Status: ...

    async def order(self, who: str, service: str, node: str | None, order: OrderRequest) -> Order:
        """Give an order about a node, or about the whole service; it is in force when this returns."""

    async def replace(self, who: str, service: str, node: str, by: ReplaceRequest) -> Applied: ...

    async def drained(self, service: str, node: str) -> Drained: ...

    async def flows(self) -> list[FlowRow]:
        """How many flows are remembered, as of some seconds ago at most."""

    async def orders(self) -> list[Order]: ...

    async def apply(self, who: str, asked: ApplyRequest) -> Applied: ...

    async def reload(self, who: str) -> Applied:
        """Read the file again that the daemon serves."""

    async def confirm(self, who: str) -> None: ...

    async def history(self) -> list[Kept]: ...

    async def restore(self, who: str, number: int) -> Applied: ...

    async def configuration(self) -> str:
        """The text that is in force."""

    async def events(self, after: int) -> list[Event]:
        """Those kept with a number above ``after``."""

    def follow(self, after: int) -> AsyncIterator[Event]:
        """Those and every later one, until the daemon stops."""
