"""What the daemon tells systemd, at a socket that plays systemd's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.daemon.fake import Kernel, text, until

from pointsman.daemon import daemon, serve
from pointsman.health.engine import Engine

Case = Callable[[], Awaitable[None]]


class Supervisor:
    """Lines that were told, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.told: list[str] = []

    def hear(self) -> list[str]:
        while True:
            try:
                self.told += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told

    def count(self, line: str) -> int:
        return self.hear().count(line)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Iterator[Supervisor]:
    found = Supervisor(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(daemon, "Reconciler", lambda: kernel)
    monkeypatch.setattr(Engine, "run", lambda _self: asyncio.Event().wait())  # nothing is sent
    yield found
    found.close()


def play(file: Path, case: Case) -> None:
    """Play a case beside a daemon, which SIGTERM ends afterwards."""

    async def play_it() -> None:
        serving = asyncio.create_task(serve.serve(file, follow_file=False))
        try:
            await case()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(10):
                await serving

    file.write_text(text())
    asyncio.run(play_it())


def test_it_is_ready_behind_the_first_apply_and_says_when_it_stops(
    supervisor: Supervisor, kernel: Kernel, tmp_path: Path
) -> None:
    kernel.going.clear()

    async def case() -> None:
        await asyncio.sleep(0.3)
        assert supervisor.hear() == []
        kernel.going.set()
        await until(lambda: supervisor.count("READY=1"))
        assert kernel.calls[0] == "apply"
        assert f"STATUS=serving {tmp_path / 'gateway.toml'}" in supervisor.told
        assert supervisor.count("STOPPING=1") == 0

    play(tmp_path / "gateway.toml", case)
    assert supervisor.hear()[-1] == "STOPPING=1"


@pytest.mark.parametrize("good", [True, False])
def test_a_reload_begins_and_ends_also_where_the_file_is_refused(
    supervisor: Supervisor, kernel: Kernel, tmp_path: Path, good: bool
) -> None:
    file = tmp_path / "gateway.toml"

    async def case() -> None:
        await until(lambda: supervisor.count("READY=1"))
        file.write_text(text("n1") if good else "no TOML")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: supervisor.count("READY=1") == 2)
        told = [line for line in supervisor.told if "WATCHDOG" not in line]
        assert told[2] == "RELOADING=1"
        assert told[3].startswith("MONOTONIC_USEC=")
        assert told[4] == "READY=1"
        assert (kernel.applied.text == text("n1")) is good

    play(file, case)


def test_the_watchdog_hears_of_it_but_not_while_the_kernels_thread_hangs(
    supervisor: Supervisor, kernel: Kernel, tmp_path: Path
) -> None:

    async def case() -> None:
        await until(lambda: supervisor.count("WATCHDOG=1") >= 3)
        kernel.going.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.2)
        heard = supervisor.count("WATCHDOG=1")
        await asyncio.sleep(0.5)
        assert supervisor.count("WATCHDOG=1") == heard
        kernel.going.set()
        await until(lambda: supervisor.count("WATCHDOG=1") > heard)

    play(tmp_path / "gateway.toml", case)


def test_without_a_supervisor_nothing_is_told(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")

    async def case() -> None:
        await until(lambda: "keep" in kernel.calls)

    play(tmp_path / "gateway.toml", case)
    assert supervisor.hear() == []
