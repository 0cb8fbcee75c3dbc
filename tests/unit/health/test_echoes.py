"""Sockets for echoes: what they have room for, and when they are opened anew."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from pointsman.health.edge import echoes
from pointsman.health.edge.echoes import Echoes
from pointsman.health.probes.step import Outcome
from pointsman.health.targets import Target
from pointsman.model import Check, CheckKind

ICMP = Check(CheckKind.ICMP)
SILENT = Target(ICMP, ip_address("192.0.2.1"), None)


class Handle:
    """A socket that sends nothing, or fails as it is told."""

    opened: list[Handle]
    failure = 0

    def __init__(self, *_: Any) -> None:
        self.options: dict[tuple[int, int], object] = {}
        self.closed = False
        self._read, self._write = os.pipe()
        Handle.opened.append(self)

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options[level, option] = value

    def fileno(self) -> int:
        return self._read

    def sendto(self, data: bytes, _: object) -> int:
        if Handle.failure:
            raise OSError(Handle.failure, os.strerror(Handle.failure))
        return len(data)

    def close(self) -> None:
        self.closed = True
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    Handle.opened, Handle.failure = [], 0
    monkeypatch.setattr(echoes, "opened", Handle)
    return Handle.opened


def with_echoes(case: Callable[[Echoes], None]) -> None:
    async def run() -> None:
        found = Echoes(asyncio.get_running_loop())
        case(found)
        found.close()

    asyncio.run(run())


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL])
def test_a_socket_whose_interface_has_gone_is_opened_anew(handles: list[Handle], number: int) -> None:
    def case(found: Echoes) -> None:
        said: list[Outcome] = []
        found.begin(SILENT, said.append)
        Handle.failure = number
        assert found.begin(SILENT, said.append) is None
        assert len(said) == 1
        Handle.failure = 0
        assert found.begin(SILENT, said.append) is not None
        assert [one.closed for one in handles] == [True, False]

    with_echoes(case)


def test_a_socket_that_has_no_room_is_kept(handles: list[Handle]) -> None:
    def case(found: Echoes) -> None:
        said: list[Outcome] = []
        Handle.failure = errno.ENOBUFS
        found.begin(SILENT, said.append)
        assert [one.ok for one in said] == [None]
        assert [one.closed for one in handles] == [False]

    with_echoes(case)


def test_a_socket_that_no_target_uses_is_closed(handles: list[Handle]) -> None:
    def case(found: Echoes) -> None:
        other = replace(SILENT, check=replace(ICMP, interface="lan0"))
        for target in (SILENT, other):
            found.begin(target, lambda _: None)
        found.want([SILENT, replace(other, check=replace(other.check, kind=CheckKind.TCP))])
        assert [one.closed for one in handles] == [False, True]

    with_echoes(case)


def test_what_forgets_late_leaves_the_number_to_its_next_owner(handles: list[Handle]) -> None:
    def case(found: Echoes) -> None:
        forget = found.begin(SILENT, lambda _: None)
        assert forget is not None
        (only,) = found._sockets.values()
        for _ in range(1 << 16):
            found.begin(SILENT, lambda _: None)
        flights = len(only._flights)
        forget()
        assert len(only._flights) == flights

    with_echoes(case)
    assert len(handles) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_there_is_room_for_pings_that_wait_for_thousands_of_neighbours() -> None:
    def case(found: Echoes) -> None:
        found.begin(Target(ICMP, ip_address("127.0.0.1"), None), lambda _: None)
        (only,) = found._sockets.values()
        assert only._handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 10_000 * 1024

    with_echoes(case)
