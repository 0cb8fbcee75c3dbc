"""The engine against servers on the loopback: what it reports, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
import pytest
from tests.unit.health.gateways import gateway, service

from pointsman.health.engine import Change, Engine, Untried
from pointsman.health.once import Tried, once
from pointsman.model import Check, CheckKind, Endpoint, Gateway, Require
from pointsman.model.health import CodeRange, HttpTerms, ScriptTerms, UdpTerms, Wildcards

FAST = Check(CheckKind.TCP, interval=0.06, timeout=0.05, rise=2, fall=2, jitter=0.1)
LOCAL = {4: "127.0.0.1", 6: "::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def watched_by(*checks: Check, family: int = 4, require: Require = Require.ALL) -> Gateway:
    return gateway(service(checks, {"n": (LOCAL[family],)}, families=(family,), require=require))


@asynccontextmanager
async def running(wanted: Gateway) -> AsyncIterator[tuple[Engine, list[Change]]]:
    changes: list[Change] = []
    engine = Engine(changes.append)
    engine.want(wanted)
    task = asyncio.create_task(engine.run())
    try:
        yield engine, changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], object], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.01)


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(serve: Serve, family: int = 4, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, LOCAL[family], port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


def tried(*checks: Check, family: int = 4) -> list[Tried]:
    return list(asyncio.run(once(watched_by(*checks, family=family))))


def unused(kind: int, family: int = 4) -> int:
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind) as handle:
        handle.bind((LOCAL[family], 0))
        return int(handle.getsockname()[1])


@FAMILIES
def test_a_server_that_goes_and_comes_back_is_reported(family: int) -> None:
    async def story() -> list[bool]:
        async with serving(answer_ok, family) as port:
            pass
        wanted = watched_by(replace(FAST, port=port), family=family)
        async with running(wanted) as (engine, changes):
            for _ in range(2):
                async with serving(answer_ok, family, port):
                    await until(lambda: engine.healthy("s", "n"))
                if len(changes) < 3:
                    await until(lambda: engine.healthy("s", "n") is False)
            ((result,),) = engine.results().values()
            assert result.target == str(Endpoint(wanted.services[0].nodes[0].addresses[0].address, port))
            assert result.changes == 2
            assert result.latency is not None
            assert result.since is not None
            assert abs(result.since - time.time()) < 5
        assert all(change.reason.startswith("tcp ") for change in changes)
        assert "connection refused" in changes[1].reason
        return [change.healthy for change in changes]

    assert asyncio.run(story()) == [True, False, True]


def test_nothing_is_reported_before_there_is_a_verdict() -> None:
    async def story() -> None:
        async with serving(answer_ok) as port:
            slow = replace(FAST, port=port, rise=100)
            async with running(watched_by(slow)) as (engine, changes):
                await until(lambda: engine.results()["s", "n"][0].said)
                assert engine.results()["s", "n"][0].healthy is None
                assert changes == []

    asyncio.run(story())


@pytest.mark.parametrize(("require", "expected"), [(Require.ALL, False), (Require.ANY, True)])
def test_of_several_checks_all_or_any_must_pass(require: Require, expected: bool) -> None:
    async def story() -> None:
        async with serving(answer_ok) as port:
            good = replace(FAST, port=port)
            bad = replace(FAST, kind=CheckKind.HTTP, port=port, terms=HttpTerms(codes=(CodeRange(404, 404),)))
            async with running(watched_by(good, bad, require=require)) as (engine, changes):
                await until(lambda: all(one.healthy is not None for one in engine.results()["s", "n"]))
                assert [one.healthy for one in engine.results()["s", "n"]] == [True, False]
                assert changes[-1].healthy is expected

    asyncio.run(story())


def test_one_address_that_fails_makes_the_node_unhealthy() -> None:
    async def story() -> None:
        async with serving(answer_ok) as port:
            check = replace(FAST, port=port)
            both = service([check], {"n": ("127.0.0.1", "::1")}, families=(4, 6))
            async with running(gateway(both)) as (engine, changes):
                await until(lambda: changes)
                assert [change.healthy for change in changes] == [False]
                assert f"[::1]:{port}" in changes[0].reason
                async with serving(answer_ok, 6, port):
                    await until(lambda: engine.healthy("s", "n"))

    asyncio.run(story())


def test_what_two_services_share_is_asked_once_and_reported_for_both() -> None:
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answer_ok(reader, writer)

    async def story() -> None:
        async with serving(count) as port:
            check = replace(FAST, kind=CheckKind.HTTP, port=port, terms=HttpTerms())
            one, two = (service([check], {"n": ("127.0.0.1",)}, name=name) for name in "st")
            async with running(gateway(one, two)) as (engine, changes):
                await until(lambda: len(changes) == 2)
                assert {change.service for change in changes} == {"s", "t"}
                assert connections == FAST.rise
                assert engine.results()["s", "n"] == engine.results()["t", "n"]

    asyncio.run(story())


def test_a_reload_keeps_verdicts_and_forgets_what_is_gone() -> None:
    async def story() -> None:
        async with serving(answer_ok) as port:
            good, bad = replace(FAST, port=port), replace(FAST, port=unused(socket.SOCK_STREAM))
            async with running(watched_by(good)) as (engine, changes):
                await until(lambda: changes)
                since = engine.results()["s", "n"][0].since
                engine.want(watched_by(good, bad))
                assert engine.results()["s", "n"][0].since == since
                assert engine.results()["s", "n"][1].healthy is None
                assert engine.healthy("s", "n") is True  # until it is known better
                await until(lambda: engine.healthy("s", "n") is False)
                engine.want(watched_by(good))
                assert (changes[-1].healthy, changes[-1].reason) == (True, "by other checks than before")
                engine.want(watched_by(bad))
                await until(lambda: engine.healthy("s", "n") is False)
                engine.want(watched_by())
                assert (changes[-1].healthy, changes[-1].reason) == (True, "checked no longer")
                assert engine.results() == {}
                count = len(changes)
                await asyncio.sleep(0.2)
                assert len(changes) == count

    asyncio.run(story())


def test_a_node_that_leaves_the_file_is_not_reported() -> None:
    async def story() -> None:
        bad = replace(FAST, port=unused(socket.SOCK_STREAM))
        async with running(watched_by(bad)) as (engine, changes):
            await until(lambda: changes)
            engine.want(gateway(service([bad], {"m": ("127.0.0.1",)})))
            # Who takes its place at the same address is what it was.
            assert [(change.node, change.healthy) for change in changes] == [("n", False), ("m", False)]

    asyncio.run(story())


def test_it_is_asked_faster_while_the_verdict_is_open() -> None:
    async def story(fast: float | None) -> float:
        check = replace(
            FAST, port=unused(socket.SOCK_STREAM), interval=0.5, fall=4, jitter=0, fast_interval=fast
        )
        began = time.monotonic()
        async with running(watched_by(check)) as (_, changes):
            await until(lambda: changes)
        return time.monotonic() - began

    assert asyncio.run(story(0.05)) < 1.0
    assert asyncio.run(story(None)) > 1.4


def test_no_more_connections_are_under_way_than_allowed() -> None:
    under_way = most = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        await answer_ok(reader, writer)

    async def crowd(limit: int | None) -> int:
        nonlocal most
        most = 0
        async with serving(slow) as port:
            terms = [HttpTerms(path=f"/{number}") for number in range(30)]
            base = replace(FAST, kind=CheckKind.HTTP, port=port, interval=0.5, timeout=0.5, rise=1, jitter=0)
            checks = [replace(base, terms=each, fast_interval=0.05) for each in terms]
            changes: list[Change] = []
            engine = Engine(changes.append, most_connects=limit)
            engine.want(watched_by(*checks))
            task = asyncio.create_task(engine.run())
            await until(lambda: changes)
            assert changes[0].healthy
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return most

    assert asyncio.run(crowd(3)) <= 3
    assert asyncio.run(crowd(None)) > 3


@FAMILIES
def test_a_server_that_says_nothing_fails_in_time(family: int) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def story() -> Tried:
        async with serving(silent, family) as port:
            check = replace(FAST, kind=CheckKind.HTTP, port=port, terms=HttpTerms())
            (one,) = await once(watched_by(check, family=family))
            return one

    one = asyncio.run(story())
    assert (one.outcome.ok, one.outcome.said, one.seconds) == (False, "no answer in time", 0.05)


@FAMILIES
@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.UDP, CheckKind.COAP, CheckKind.DTLS])
def test_a_port_that_nobody_has_is_refused_at_once(family: int, kind: CheckKind) -> None:
    port = unused(socket.SOCK_STREAM if kind is CheckKind.TCP else socket.SOCK_DGRAM, family)
    terms = UdpTerms(b"x") if kind is CheckKind.UDP else None
    (one,) = tried(replace(FAST, kind=kind, port=port, terms=terms, timeout=2.0), family=family)
    assert (one.outcome.ok, one.outcome.said) == (False, "connection refused")


@FAMILIES
def test_udp_is_asked_and_its_late_answer_is_for_nobody(family: int) -> None:
    class Late(asyncio.DatagramProtocol):
        delay = 0.0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            send = cast("asyncio.DatagramTransport", self.transport).sendto
            asyncio.get_running_loop().call_later(self.delay, send, data.upper(), addr)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(Late, local_addr=(LOCAL[family], 0))
        port = transport.get_extra_info("sockname")[1]
        terms = UdpTerms(b"ping", Wildcards((tuple(b"PING"),)))
        check = replace(FAST, kind=CheckKind.UDP, port=port, terms=terms)
        async with running(watched_by(check, family=family)) as (engine, changes):
            await until(lambda: changes)
            assert changes[0].healthy
            # Each answer comes when the next try is under way already.
            server.delay = 0.08
            await until(lambda: engine.healthy("s", "n") is False)
            await asyncio.sleep(0.4)
            assert engine.results()["s", "n"][0].changes == 1
        transport.close()

    asyncio.run(story())


@FAMILIES
@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")
def test_icmp_is_answered_by_this_machine(family: int) -> None:
    (one,) = tried(replace(FAST, kind=CheckKind.ICMP, timeout=1.0), family=family)
    assert (one.outcome.ok, one.outcome.said) == (True, "echo reply")


def script(text: str, timeout: float = 2.0) -> Check:
    terms = ScriptTerms((sys.executable, "-S", "-c", text))
    return replace(FAST, kind=CheckKind.SCRIPT, port=1234, timeout=timeout, terms=terms)


@FAMILIES
def test_a_script_is_told_its_target_and_nothing_else(family: int) -> None:
    (one,) = tried(script("import os; del os.environ['PATH']; print(*os.environ.items())"), family=family)
    assert one.outcome.ok, one.outcome.said
    for expected in (LOCAL[family], "'1234'", f"'{family}'", "'2'"):
        assert expected in one.outcome.said
    assert "HOME" not in one.outcome.said


def test_a_script_fails_by_its_status_and_says_why() -> None:
    (one,) = tried(script("import sys; print('no broker'); print('x'); sys.exit(3)"))
    assert (one.outcome.ok, one.outcome.said) == (False, "exit status 3: no broker")
    (killed,) = tried(script("import os; os.kill(os.getpid(), 9)"))
    assert killed.outcome.said == "ended by signal 9"
    missing = replace(script(""), terms=ScriptTerms(("/nonexistent/check",)))
    (one,) = tried(missing)
    assert (one.outcome.ok, one.outcome.said) == (False, "/nonexistent/check: no such file or directory")


def test_a_script_that_writes_a_lot_is_not_held_up() -> None:
    (one,) = tried(script("print('x' * 3_000_000)"))
    assert one.outcome.ok
    assert len(one.outcome.said) < 300


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # whoever adopts orphans here may take its time to ask how it ended


@pytest.mark.parametrize("end", ["time.sleep(99)", "pass"])
def test_nothing_of_a_script_outlives_its_try(end: str, tmp_path: Path) -> None:
    """Neither itself, hanging, nor what it left running behind it."""
    note = tmp_path / "pid"
    text = (
        "import subprocess, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen(['sleep', '99'])\nopen({str(note)!r}, 'w').write(str(child.pid))\n{end}"
    )
    (one,) = tried(script(text, timeout=1.0))
    assert one.outcome.ok is (end == "pass")
    child = int(note.read_text())
    end_of_wait = time.monotonic() + 5
    while _runs(child):
        assert time.monotonic() < end_of_wait, "it runs still"
        time.sleep(0.01)


def test_a_cancelled_engine_leaves_no_sockets_and_no_processes() -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only counted

    async def story() -> tuple[int, int]:
        before = files()
        hanging = script("import time; time.sleep(99)", timeout=60)
        checks = [
            replace(hanging, interval=60, fast_interval=0.05),
            replace(FAST, kind=CheckKind.UDP, port=unused(socket.SOCK_DGRAM), terms=UdpTerms(b"x")),
            FAST,
        ]
        async with running(watched_by(*checks)):
            await asyncio.sleep(0.3)
            during = files()
        return during - before, files() - before

    others = set(psutil.Process().children())  # of cases before this one
    during, after = asyncio.run(story())
    assert during >= 2
    assert after == 0
    assert set(psutil.Process().children()) <= others


def test_what_is_wrong_here_is_not_held_against_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with (
            serving(answer_ok) as port,
            running(watched_by(replace(FAST, port=port))) as (engine, changes),
        ):
            await until(lambda: changes)

            def exhausted(*_: object, **__: object) -> socket.socket:
                raise OSError(24, "Too many open files")

            monkeypatch.setattr("pointsman.health.edge.streams.opened", exhausted)
            await until(lambda: "too many open files" in engine.results()["s", "n"][0].said)
            await asyncio.sleep(0.4)
            assert engine.healthy("s", "n") is True
            assert engine.results()["s", "n"][0].said == "not tried: too many open files"

    asyncio.run(story())


def test_a_check_that_cannot_be_tried_is_told_of_once_and_once_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> list[Untried]:
        told: list[Untried] = []
        seen: list[bool | None] = []
        async with serving(answer_ok) as port:
            engine = Engine(lambda _: None, tell_untried=told.append)
            engine.add_observer(lambda *each: seen.append(each[2]))
            engine.want(watched_by(replace(FAST, port=port)))
            task = asyncio.create_task(engine.run())
            await until(lambda: engine.healthy("s", "n"))

            def exhausted(*_: object, **__: object) -> socket.socket:
                raise OSError(24, "Too many open files")

            with monkeypatch.context() as patched:
                patched.setattr("pointsman.health.edge.streams.opened", exhausted)
                await until(lambda: seen.count(None) >= FAST.fall + 3)
                (result,) = engine.results()["s", "n"]
                assert (result.healthy, result.tried) == (True, False)
            await until(lambda: engine.results()["s", "n"][0].tried)
            check = f"tcp 127.0.0.1:{port}"
            assert told == [
                Untried("s", "n", check, "not tried: too many open files"),
                Untried("s", "n", check, None),
            ]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return told

    asyncio.run(story())


def test_checks_of_one_kind_and_port_are_told_apart() -> None:
    async def story() -> None:
        async with serving(answer_ok) as port:
            base = replace(FAST, kind=CheckKind.HTTP, port=port)
            terms = (
                HttpTerms(),
                HttpTerms(path="/db?key=secret"),
                HttpTerms(host="b", codes=(CodeRange(404, 404),)),
            )
            async with running(watched_by(*(replace(base, terms=each) for each in terms))) as (
                engine,
                changes,
            ):
                targets = [one.target for one in engine.results()["s", "n"]]
                assert targets == [f"127.0.0.1:{port}{which}" for which in ("", "/db", " #2")]
                await until(lambda: changes)
                assert changes[0].reason.startswith(f"http {targets[2]}: 200 OK")
            assert [one.words for one in await once(watched_by(replace(base, terms=terms[1])))] == [
                targets[1]
            ]

    asyncio.run(story())


def test_an_interface_that_is_not_there_fails_the_check() -> None:
    (one,) = tried(replace(FAST, port=1, interface="nowhere0"))
    assert (one.outcome.ok, one.outcome.said) == (False, "no such device")


def test_a_check_comes_from_its_source() -> None:
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await answer_ok(reader, writer)

    async def story() -> None:
        async with serving(note) as port:
            source = watched_by().services[0].nodes[0].addresses[0].address + 8
            check = replace(FAST, kind=CheckKind.HTTP, port=port, terms=HttpTerms(), sources=(source,))
            await once(watched_by(check))

    asyncio.run(story())
    assert seen == ["127.0.0.9"]


def test_observers_are_told_how_long_it_took() -> None:
    async def story() -> list[tuple[str, CheckKind, bool | None, float]]:
        told: list[tuple[str, CheckKind, bool | None, float]] = []
        async with (
            serving(answer_ok) as port,
            running(watched_by(replace(FAST, port=port))) as (engine, changes),
        ):
            engine.add_observer(lambda *each: told.append(each))
            await until(lambda: changes)
        return told

    told = asyncio.run(story())
    assert len(told) >= FAST.rise
    assert all(kind is CheckKind.TCP and ok and 0 < seconds < 5 for _, kind, ok, seconds in told)


def test_a_report_that_fails_does_not_stop_the_checks() -> None:
    async def story() -> int:
        calls = 0

        def report(_: Change) -> None:
            nonlocal calls
            calls += 1
            raise RuntimeError

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with serving(answer_ok) as port:
            engine = Engine(report)
            engine.want(watched_by(replace(FAST, port=port)))
            task = asyncio.create_task(engine.run())
            await until(lambda: calls == 1)
        await until(lambda: calls == 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return calls

    assert asyncio.run(story()) == 2
