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
    bound: bytes | None = b""

    def __init__(self, *_: Any) -> None:
        self.options: dict[tuple[int, int], object] = {}
        self.closed = False
        self._read, self._write = os.pipe()
        Handle.opened.append(self)

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options[level, option] = value

    def getsockopt(self, *_: int) -> bytes:
        if Handle.bound is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return Handle.bound

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
    Handle.opened, Handle.failure, Handle.bound = [], 0, b"lan0\0"
    monkeypatch.setattr(echoes, "opened", Handle)
    return Handle.opened


def with_echoes(case: Callable[[Echoes], None]) -> None:
    async def run() -> None:
        found = Echoes(asyncio.get_running_loop())
        case(found)
        found.close()

    asyncio.run(run())


@pytest.mark.parametrize("bound", [None, b"other0\0"])
@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENETUNREACH])
def test_a_socket_whose_interface_has_gone_is_opened_anew(
    handles: list[Handle], number: int, bound: bytes | None
) -> None:
    def case(found: Echoes) -> None:
        said: list[Outcome] = []
        target = replace(SILENT, check=replace(ICMP, interface="lan0"))
        found.begin(target, said.append)
        Handle.failure, Handle.bound = number, bound
        assert found.begin(target, said.append) is None
        assert len(said) == 1
        Handle.failure = 0
        assert found.begin(target, said.append) is not None
        assert [one.closed for one in handles] == [True, False]

    with_echoes(case)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EINVAL, errno.ENODEV])
@pytest.mark.parametrize("interface", [None, "lan0"])
def test_a_socket_that_others_may_wait_at_is_kept(
    handles: list[Handle], number: int, interface: str | None
) -> None:
    def case(found: Echoes) -> None:
        said: list[Outcome] = []
        Handle.failure = number
        found.begin(replace(SILENT, check=replace(ICMP, interface=interface)), said.append)
        assert len(said) == 1
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
