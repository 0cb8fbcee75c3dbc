"""Hundreds of sessions rebind while nodes drain, configurations change and `pointsman apply` is killed.

It lasts POINTSMAN_SOAK_SECONDS (20; `make soak`: 600). POINTSMAN_SOAK_SEED repeats a course.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from tests.e2e.crowd import (
    COAPS,
    NODES,
    SERVED,
    STRICT,
    behind_nats,
    established,
    finished,
    remap,
    unharmed,
    wandering,
)

from pointsman.lab.demo_peers import total
from pointsman.lab.demo_site import Served, Site

pytestmark = [pytest.mark.peers, pytest.mark.netns]

SECONDS = float(os.environ.get("POINTSMAN_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("POINTSMAN_SOAK_SEED", "0")) or time.time_ns() % 1_000_000
WITH_N4 = replace(SERVED, nodes=(*NODES, "n4"))


class Operator:
    """Gives orders without end; at least one node takes new sessions."""

    def __init__(self, site: Site, random: Random) -> None:
        self._site, self._random = site, random
        self.draining: set[str] = set()
        self.config = SERVED
        self.done: Counter[str] = Counter()
        self.newcomers = 0

    def act(self) -> None:
        acts = (self.remap, self.drain, self.enable, self.apply, self.killed_apply, self.greet)
        act = self._random.choices(acts, weights=(3, 2, 2, 2, 3, 2))[0]
        self.done[act.__name__] += 1
        act()

    def remap(self) -> None:
        remap(self._site, sum(self.done.values()))

    def drain(self) -> None:
        node = self._random.choice(NODES)
        if len(self.draining | {node}) < len(NODES):
            self._site.order("drain", "s", node)
            self.draining.add(node)

    def enable(self) -> None:
        if self.draining:
            node = self._random.choice(sorted(self.draining))
            self._site.order("enable", "s", node)
            self.draining.remove(node)

    def apply(self) -> None:
        self._apply(self._other())

    def killed_apply(self) -> None:
        """Kill -9 at any moment of its life; the next one finds out what stands, and puts it right."""
        child = self._site.start_apply(other := self._other())
        time.sleep(self._random.uniform(0.05, 0.7))
        child.kill()
        child.wait(5)
        self._apply(other)

    def greet(self) -> None:
        """Newcomers get a session on a node that takes any."""
        clients = wandering(self._site, 5, "--requests", "2", "--gap-ms", "20", *STRICT)
        self.newcomers += 10
        ends = finished(clients)
        assert all(ends[f"node {node}"] == 0 for node in self.draining)

    def _other(self) -> Served:
        return WITH_N4 if self.config is SERVED else SERVED

    def _apply(self, config: Served) -> None:
        self._site.apply(config)
        self.config = config
        nodes = self._site.status()["services"][0]["nodes"]
        assert {node["name"] for node in nodes} == set(config.nodes)
        assert {node["name"] for node in nodes if node["state"] == "draining"} == self.draining


@pytest.mark.timeout(SECONDS + 100)
def test_soak(site: Site) -> None:
    print(f"seed {SEED}")
    site.foreign_masquerade()
    site.apply(SERVED)
    site.serve((*NODES, "n4"), COAPS)
    end = time.monotonic() + SECONDS
    # The NATs lose what is on its way to an old mapping; the others lose nothing, and ask nothing twice.
    natted = behind_nats(site, 50, "--gap-ms", "250", "--timeout-ms", "1000", "--retries", "3")
    strict = wandering(site, 60, "--gap-ms", "200", *STRICT, every=3)
    established([*natted, *strict])
    operator = Operator(site, Random(SEED))
    while time.monotonic() < end:
        operator.act()
    operator.done["killed_apply"] += 1
    operator.killed_apply()
    ends = unharmed(strict)
    assert ends["retries"] == 0
    ends += unharmed(natted)
    nodes = total(site.stats())
    assert nodes["handshakes"] == 320 + operator.newcomers
    assert nodes["unknown_cid"] == nodes["errors"] == 0
    assert site.tracked() == []
    print(
        f"{ends['answered']} of {ends['requests']} requests answered ({ends['retries']} repeated), "
        f"{nodes['moved']} moves, {operator.newcomers} newcomers; {dict(operator.done)}"
    )
