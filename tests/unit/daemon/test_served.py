"""The API's sockets over changed settings, and over somebody who takes them away."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.unit.api.fake import FakeOperator

from pointsman.api.metrics import Figures
from pointsman.daemon import served
from pointsman.daemon.events import EventLog
from pointsman.daemon.served import Doors
from pointsman.model import Api, ApiOverTcp, Endpoint


class FakeDaemon(FakeOperator):
    def __init__(self, settings: Api) -> None:
        super().__init__()
        self.api_settings = settings
        self.figures = Figures()
        self.said: list[str] = []
        self.log = EventLog(time.time, lambda event: self.said.append(event.text))


@asynccontextmanager
async def opened(daemon: FakeDaemon) -> AsyncIterator[Doors]:
    doors = Doors(daemon)
    await doors.begin()
    keeping = asyncio.create_task(doors.keep_open())
    try:
        yield doors
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await doors.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LOOKED_AT_EVERY", 0.02)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_socket_whose_folder_was_removed_is_there_again(tmp_path: Path) -> None:
    async def case() -> None:
        path = tmp_path / "folder/api.sock"
        async with opened(FakeDaemon(Api(socket=str(path)))):
            shutil.rmtree(path.parent)
            await until(lambda: listens(path))
        assert not path.exists()

    asyncio.run(case())


def test_changed_settings_are_served_without_a_new_start(tmp_path: Path) -> None:
    async def case() -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        daemon = FakeDaemon(Api(socket=str(first)))
        async with opened(daemon):
            daemon.api_settings = Api(socket=str(second), socket_mode=0o600)
            await until(lambda: listens(second))
            assert second.stat().st_mode & 0o777 == 0o600
            assert not first.exists()
        assert daemon.said == []

    asyncio.run(case())


def test_settings_that_cannot_be_served_leave_those_of_before_and_are_tried_again_on_demand(
    tmp_path: Path,
) -> None:
    async def case() -> None:
        path, taken = tmp_path / "path", tmp_path / "taken"
        taken.write_text("a file")
        daemon = FakeDaemon(Api(socket=str(path)))
        async with opened(daemon) as doors:
            daemon.api_settings = replace(daemon.api_settings, socket=str(taken))
            await until(lambda: bool(daemon.said))
            await until(lambda: listens(path))
            await asyncio.sleep(0.2)
            assert len(daemon.said) == 1
            assert "there is a file that is no socket; it is served as before" in daemon.said[0]
            taken.unlink()
            doors.renew()
            await until(lambda: listens(taken))
            assert not path.exists()

    asyncio.run(case())


def test_a_start_without_its_certificate_is_on_the_unix_socket_alone(tmp_path: Path) -> None:
    async def case() -> None:
        missing = str(tmp_path / "missing.crt")
        tcp = ApiOverTcp(Endpoint(ip_address("127.0.0.1"), 0), missing, missing, missing)
        daemon = FakeDaemon(Api(socket=str(tmp_path / "path"), tcp=tcp))
        async with opened(daemon):
            assert listens(tmp_path / "path")
            await asyncio.sleep(0.2)
        assert len(daemon.said) == 1
        assert "it is served on the unix socket alone" in daemon.said[0]

    asyncio.run(case())
