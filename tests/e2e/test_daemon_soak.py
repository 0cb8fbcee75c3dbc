"""A daemon under mixed load that is killed, reloaded, ordered about and flooded: nothing lost, nothing grown.

It lasts POINTSMAN_SOAK_SECONDS (8; `make soak`: 1800) on each data plane. POINTSMAN_SOAK_SEED repeats a course.
The first fifth of it are kills; the daemon that is left has the rest, and is looked at all the time.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from statistics import median

import psutil
import pytest
from tests.conformance import site as gateways
from tests.conformance.serving import Daemon, serving
from tests.e2e.doors import Door, doors
from tests.e2e.mixed import NODES, servers, text, under_load
from tests.e2e.test_faults import EVERY, Flood, becomes, check, flap, process, states

from pointsman.lab.demo_site import Site

SECONDS = float(os.environ.get("POINTSMAN_SOAK_SECONDS", "8"))
SEED = int(os.environ.get("POINTSMAN_SOAK_SEED", "0")) or time.time_ns() % 1_000_000
GROWTH = 8 << 20
"""Bytes that an interpreter's memory may wander by."""

pytestmark = [pytest.mark.peers, pytest.mark.netns, pytest.mark.timeout(SECONDS * 1.2 + 300)]


@pytest.fixture
def gateway(site: Site) -> Iterator[gateways.Site]:
    found = gateways.Site(site.lab, site.plane, 4)
    yield found
    found.close()


@dataclass(frozen=True, slots=True)
class Sample:
    """What the daemon's process has."""

    memory: int
    files: int
    threads: int
    children: int


def sample(own: psutil.Process) -> Sample:
    with own.oneshot():
        return Sample(own.memory_info().rss, own.num_fds(), own.num_threads(), len(own.children()))


class Course:
    """What is done to the daemon, by chance; n1 and n2 take packets whatever it is."""

    def __init__(self, site: Site, daemon: Daemon, door: Door) -> None:
        self._site, self._daemon, self._door = site, daemon, door
        self._versions = [
            text(site, records=nodes, more=more)
            for nodes in (EVERY, NODES)
            for more in (check(), check(rise=1, fall=1))
        ]
        self._random = Random(SEED)
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        acts = (self.reload, self.refused, self.order, self.flap, self.flood, self.ask)
        act = self._random.choices(acts, weights=(6, 1, 4, 2, 1, 2))[0]
        self.done[act.__name__] += 1
        act()

    def kill(self) -> None:
        self.done["kill"] += 1
        self._daemon.file.write_text(self._random.choice(self._versions))
        self._daemon.reload()
        time.sleep(self._random.random() * 0.2)
        self._daemon.kill()
        self._daemon.start()

    def reload(self) -> None:
        self._daemon.file.write_text(self._random.choice(self._versions))
        self._daemon.site.pointsman("reload")

    def refused(self) -> None:
        self._daemon.file.write_text("[gateway]\nname = 5\n")
        assert self._daemon.site.pointsman("reload", check=False).returncode == 2

    def order(self) -> None:
        for verb in ("drain", "enable"):
            self._daemon.site.pointsman("node", verb, f"records/{self._random.choice(NODES)}")
        for node in NODES:
            self._daemon.site.pointsman("node", "enable", f"records/{node}")

    def flap(self) -> None:
        flap(self._door, 1.0)

    def flood(self) -> None:
        flood = Flood(self._site, 2, 2)
        time.sleep(0.5)
        flood.end()

    def ask(self) -> None:
        for command in (["status"], ["events"], ["counters"], ["history"]):
            self._daemon.site.pointsman(*command)

    def settle(self) -> None:
        """Every node up, by the first version."""
        self._daemon.file.write_text(self._versions[0])
        self._daemon.site.pointsman("reload")
        for node in EVERY:
            becomes(self._daemon, node, "up")


def test_soak_of_the_daemon(site: Site, gateway: gateways.Site) -> None:
    samples: list[Sample] = []
    with (
        servers(site),
        doors(site.lab, EVERY) as ports,
        serving(gateway, text(site, records=EVERY, more=check()), afresh=True) as daemon,
        under_load(site, rate=400) as load,
    ):
        course = Course(site, daemon, ports["n3"])
        began = time.monotonic()
        while time.monotonic() < began + SECONDS / 5:
            course.kill()
        own = process(daemon)
        for act in (course.reload, course.refused, course.order, course.flood, course.ask, course.settle):
            act()  # so that each has had its part of the memory
        first = sample(own)
        while time.monotonic() < began + SECONDS or len(samples) < 8:
            course.act()
            samples.append(sample(own))
        course.settle()
        daemon.until(lambda: sample(own).files <= first.files, f"{first.files} descriptors as before")
        last = sample(own)
        assert set(states(gateway).values()) == {"up"}
    figures = load.stop()
    quarter = len(samples) // 4
    early = median(each.memory for each in samples[quarter : 2 * quarter])
    late = median(each.memory for each in samples[-quarter:])
    print(
        f"\n{site.plane}: {SECONDS:g} s (seed {SEED}), {dict(course.done)}: {figures}; "
        f"memory in the second quarter {early / 2**20:.1f} MiB, in the last {late / 2**20:.1f} MiB; "
        f"descriptors {first.files} and {last.files}, threads {first.threads} and {last.threads}, "
        f"children {first.children} and {last.children}"
    )
    figures.nothing_lost()
    assert late - early < GROWTH
    assert last.threads <= first.threads
    assert last.children <= first.children
