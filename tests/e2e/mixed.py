"""Load of all kinds at once, and what of it is lost: numbered records, real DTLS sessions, and TCP connections."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.load import Load
from tests.conformance.site import COAPS
from tests.e2e.crowd import STRICT, established, wandering
from tests.e2e.programs import PORTS, running

from pointsman.lab.build import Lab
from pointsman.lab.demo_peers import Client, at, end_all, total
from pointsman.lab.demo_site import FAMILIES, Site
from pointsman.lab.topology import VIP

MANY = [sys.executable, str(Path(__file__).with_name("many.py"))]
SESSIONS_PORT = 5784
SHORTEST = 1.0
"""Seconds that load lasts at the least."""
NODES = ("n1", "n2")
"""They stay, whatever becomes of the others."""


def text(site: Site, *, records: Sequence[str] = NODES, more: str = "", interfaces: str = "") -> str:
    """Services for all three; ``records`` are the nodes of the records' service, ``more`` its further keys."""
    lines = ["[gateway]", 'name = "edge"', f'dataplane = "{site.plane}"', "hash_seed = 1", interfaces]
    lines += _service(site.lab, "records", "dtls", COAPS, records, 'connection_id = "californium"', more)
    lines += _service(site.lab, "sessions", "dtls", SESSIONS_PORT, NODES, 'connection_id = "californium"')
    lines += _service(site.lab, "web", "tcp", PORTS["nginx"], NODES, 'linger = "1m"')
    return "\n".join([*lines, ""])


def _service(
    lab: Lab, name: str, protocol: str, port: int, nodes: Sequence[str], *more: str
) -> Iterator[str]:
    listen = ", ".join(f'"{at(VIP[family], port)}"' for family in FAMILIES)
    yield from ["[[service]]", f'name = "{name}"', f'protocol = "{protocol}"', f"listen = [{listen}]", *more]
    for node in nodes:
        own = ", ".join(f'"{lab.address(node, family)}"' for family in FAMILIES)
        yield from ["[[service.node]]", f'name = "{node}"', f"address = [{own}]"]
        if protocol == "dtls":
            yield f"id = {node[1:]}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was sent and what of it was lost; ``harmed`` are sessions, ``moved`` connections at another node."""

    sent: int
    lost: int
    sessions: int
    requests: int
    unanswered: int
    harmed: int
    connections: int
    answers: int
    broken: int
    moved: int

    def __str__(self) -> str:
        return (
            f"{self.lost} of {self.sent} records lost; "
            f"{self.unanswered} of {self.requests} requests of {self.sessions} DTLS sessions unanswered, "
            f"{self.harmed} harmed; {self.broken} of {self.connections} TCP connections broken, "
            f"{self.moved} moved, {self.answers} answers"
        )

    def nothing_lost(self) -> None:
        assert self.sent > 0
        assert self.requests > 0
        assert self.answers >= self.connections > 0
        assert (self.lost, self.unanswered, self.harmed, self.broken, self.moved) == (0,) * 5, str(self)


class Crowd:
    """TCP connections that are asked without end."""

    def __init__(self, lab: Lab, family: int, count: int) -> None:
        self.count = count
        self.answered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.moved = 0
        self._child = lab.popen(
            "client",
            [*MANY, VIP[family], str(PORTS["nginx"]), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._child.stdout is not None
        assert self._child.stdout.readline() == "open\n"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        while not self._over.is_set():
            self._child.stdin.write("\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
            if not line:
                return
            said = json.loads(line)
            self.answered.update(said["answered"])
            self.lost.update(said["lost"])
            self.moved += said["moved"]
            self._over.wait(0.1)

    def end(self) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._child.communicate()

    def kill(self) -> None:
        self._over.set()
        self._child.kill()
        self._child.wait()


class Mixed:
    """All of it, begun; ``stop`` ends it and says what was lost."""

    def __init__(self, site: Site, *, rate: int, sessions: int, connections: int) -> None:
        self.clients: list[Client] = wandering(
            site, sessions // 2, "--gap-ms", "100", *STRICT, every=3, port=SESSIONS_PORT
        )
        self.crowds: list[Crowd] = []
        self._load: Load | None = None
        self._figures: Figures | None = None
        try:
            for family in FAMILIES:
                self.crowds.append(Crowd(site.lab, family, connections // 2))
            established(self.clients)
        except BaseException:
            self.kill()
            raise
        self._load, self._began = Load(site.lab, rate), time.monotonic()

    def stop(self) -> Figures:
        if self._figures is not None:
            return self._figures
        assert self._load is not None
        time.sleep(max(0.0, self._began + SHORTEST - time.monotonic()))
        sent, arrived = self._load.stop()
        for crowd in self.crowds:
            crowd.end()
        ends = total(end_all(self.clients))
        self._figures = Figures(
            sent=sent,
            lost=sent - arrived,
            sessions=ends["sessions"],
            requests=ends["requests"],
            unanswered=ends["requests"] - ends["answered"],
            harmed=sum(len(client.broken) for client in self.clients),
            connections=sum(crowd.count for crowd in self.crowds),
            answers=sum(sum(crowd.answered.values()) for crowd in self.crowds),
            broken=sum(sum(crowd.lost.values()) for crowd in self.crowds),
            moved=sum(crowd.moved for crowd in self.crowds),
        )
        return self._figures

    def kill(self) -> None:
        """End what ends not with the site."""
        for crowd in self.crowds:
            crowd.kill()
        if self._load is not None:
            self._load.stop()


@contextmanager
def servers(site: Site) -> Iterator[None]:
    """The nodes' real servers, for DTLS sessions and for connections."""
    site.serve(NODES, SESSIONS_PORT)
    with running(site.lab, "nginx", NODES):
        yield


@contextmanager
def under_load(
    site: Site, *, rate: int = 2_000, sessions: int = 20, connections: int = 100
) -> Iterator[Mixed]:
    """Load for as long as the block lasts, unless it stops it itself; servers run already."""
    mixed = Mixed(site, rate=rate, sessions=sessions, connections=connections)
    try:
        yield mixed
    except BaseException:
        mixed.kill()
        raise
    time.sleep(0.2)
    mixed.stop()
