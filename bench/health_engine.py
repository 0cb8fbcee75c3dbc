"""The engine alone, for bench.health: so many checks of so many nodes; prints what they took as JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from bench.health import INTERVAL, PORTS
from pointsman.health.engine import Change, Engine
from pointsman.model import (
    Check,
    CheckKind,
    Endpoint,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Protocol,
    Service,
)
from pointsman.model.health import HttpTerms, Terms, TlsTerms, UdpTerms, Wildcards

_PATIENCE = 60.0
_NODES = {4: IPv4Address("10.64.0.1"), 6: IPv6Address("fd64::1")}
_VIPS = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}
_TERMS: dict[str, Terms] = {
    "udp": UdpTerms(b"ping", Wildcards((tuple(b"ping"),))),
    "http": HttpTerms(body="^ok$"),
    "https": HttpTerms(body="^ok$", tls=TlsTerms()),
    "tls": TlsTerms(),
}


def services(count: int, kinds: list[str]) -> tuple[Service, ...]:
    """A service for each kind and family; together they have ``count`` nodes, none of them twice."""
    found, given = [], 0
    each = count // len(kinds) // 2
    for kind in kinds:
        check = Check(CheckKind(kind), interval=INTERVAL, terms=_TERMS.get(kind))
        for family in (4, 6):
            nodes = tuple(
                Node(f"n{number}", (NodeAddress(_NODES[family] + number),))
                for number in range(given, given + each)
            )
            given += each
            listener = Listener(Endpoint(_VIPS[family], PORTS.get(kind, 7)))
            found.append(Service(f"{kind}{family}", Protocol.UDP, (listener,), nodes, checks=(check,)))
    return tuple(found)


def _all_healthy(engine: Engine) -> bool:
    return all(one.healthy for results in engine.results().values() for one in results)


async def _measure(count: int, seconds: float, kinds: list[str]) -> dict[str, object]:
    changes: list[Change] = []
    tries = 0

    def observed(*_: object) -> None:
        nonlocal tries
        tries += 1

    engine = Engine(changes.append)
    engine.add_observer(observed)
    engine.want(Gateway("bench", services(count, kinds), 1))
    task = asyncio.create_task(engine.run())
    give_up = time.monotonic() + _PATIENCE
    while not _all_healthy(engine) and time.monotonic() < give_up:
        await asyncio.sleep(INTERVAL)
    tries, settled = 0, len(changes)
    began, before = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    took, cpu = time.monotonic() - began, time.process_time() - before
    results = [one for results in engine.results().values() for one in results]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return {
        "seconds": took,
        "cpu": cpu,
        "tries": tries,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "healthy": sum(one.healthy is True for one in results),
        "changes": len(changes) - settled,
        "said": sorted({one.said for one in results})[:5],
        "why": Counter(f"{one.healthy} {one.reason.split(': ')[1]}" for one in changes[settled:]),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))))
