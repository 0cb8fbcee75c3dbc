"""The fake behind an application, and behind a socket as the daemon would be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from tests.unit.api.fake import FakeOperator

from pointsman.api.access import Access, Peer, Scope, Token
from pointsman.api.app import application
from pointsman.api.client import Client
from pointsman.api.metrics import Figures
from pointsman.api.place import ENVIRONMENT
from pointsman.api.server import Serving, serving
from pointsman.model import Api

TOKENS = {"reader": Scope.READ, "ci": Scope.OPERATE}


def token(name: str) -> str:
    return f"secret-of-{name}"


def access() -> Access:
    found = (Token(name, scope, sha256(token(name).encode()).digest()) for name, scope in TOKENS.items())
    return Access(tuple(found), owner=900, group=800)


@pytest.fixture
def operator() -> FakeOperator:
    return FakeOperator()


@dataclass
class Asking:
    """Ask the application without a socket, as who holds a token, or as a process on the unix socket."""

    operator: FakeOperator
    figures: Figures

    def __call__(
        self,
        method: str,
        path: str,
        *,
        who: str | None = "ci",
        peer: Peer | None = None,
        json: object = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        app = application(self.operator, access, self.figures)
        sent = dict(headers or {})
        if who is not None and peer is None:
            sent["authorization"] = f"Bearer {token(who)}"

        async def with_peer(scope: dict[str, object], receive: object, send: object) -> None:
            if peer is not None:
                scope["state"] = {"peer": peer}
            await app(scope, receive, send)  # type: ignore[arg-type]  # ASGI's own types are dictionaries

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(with_peer, raise_app_exceptions=False)  # type: ignore[arg-type]  # likewise
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, json=json, content=content, headers=sent)

        return asyncio.run(ask())


@pytest.fixture
def ask(operator: FakeOperator) -> Asking:
    return Asking(operator, Figures())


class Daemon:
    """The fake served in a thread: ``does`` runs something there, as the operator belongs to its loop."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.operator = FakeOperator()
        self.serving: Serving
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._refused: Exception | None = None
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        try:
            async with serving(self.operator, self.api) as self.serving:
                self._ready.set()
                await self._end.wait()
                self.operator.stopped.set()
        except Exception as problem:
            self._refused = problem
        finally:
            self._ready.set()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)
        if self._refused:
            self._thread.join()
            raise self._refused

    def does(self, what: Callable[[], object]) -> None:
        async def do() -> None:
            what()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(20)
            assert not self._thread.is_alive()


@contextmanager
def daemon_at(api: Api) -> Iterator[Daemon]:
    served = Daemon(api)
    served.start()
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The fake at a socket that commands find by the environment."""
    path = tmp_path / "api.sock"
    monkeypatch.setenv(ENVIRONMENT, str(path))
    with daemon_at(Api(socket=str(path))) as served:
        yield served


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    found = Client(Path(daemon.api.socket))
    yield found
    found.close()
