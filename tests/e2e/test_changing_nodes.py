"""Nodes drain, come and go while sessions live and handshakes are under way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.e2e.crowd import (
    COAPS,
    NODES,
    SERVED,
    STRICT,
    established,
    finished,
    per_node,
    unharmed,
    wandering,
)

from pointsman.lab.demo_peers import Client, total
from pointsman.lab.demo_site import FAMILIES, Site

pytestmark = [pytest.mark.peers, pytest.mark.netns]

WITH_N4 = replace(SERVED, nodes=(*NODES, "n4"))
WITHOUT_N1 = replace(SERVED, nodes=("n2", "n3"))
PAUSE_MS = 1200
"""Before each of a client's later flights."""


def newcomers(site: Site, each: int = 20) -> dict[str, int]:
    """Handshakes of fresh clients by node; every one is fine."""
    before = per_node(site, "handshakes")
    finished(wandering(site, each, "--requests", "2", "--gap-ms", "20", *STRICT))
    return {node: count - before[node] for node, count in per_node(site, "handshakes").items()}


def test_sessions_live_on_while_nodes_drain_come_and_go(site: Site) -> None:
    site.apply(SERVED)
    site.serve(("n1", "n2", "n3", "n4"), COAPS)
    clients = wandering(site, 60, "--gap-ms", "100", *STRICT, every=3)
    established(clients)
    began = per_node(site, "handshakes")
    assert min(began[node] for node in NODES) > 0

    site.order("drain", "s", "n1")
    drained = newcomers(site)
    assert drained["n1"] == 0 < drained["n2"]
    site.apply(WITH_N4)  # the order holds over the apply
    added = newcomers(site)
    assert added["n1"] == 0 < added["n4"]
    site.order("drain", "s", "n2")
    site.order("enable", "s", "n1")
    enabled = newcomers(site)
    assert enabled["n2"] == 0 < enabled["n1"]
    site.apply(SERVED)
    site.order("enable", "s", "n2")
    again = newcomers(site)
    assert again["n4"] == 0 < again["n2"]

    answered = {node: count for node, count in per_node(site, "answered").items() if node in NODES}
    for client in clients:
        client.wait_for("progress", len(client.events("progress")) + 3)
    assert all(count > answered[node] for node, count in per_node(site, "answered").items() if node in NODES)
    ends = unharmed(clients)
    assert ends["retries"] == 0
    assert ends["rebinds"] > 120
    assert total(site.stats())["handshakes"] == 120 + 5 * 40 - 40


def _drain(site: Site) -> None:
    site.order("drain", "s", "n1")


def _add(site: Site) -> None:
    site.apply(WITH_N4)


def _remove(site: Site) -> None:
    site.apply(WITHOUT_N1)


def _start(site: Site, *more: str) -> list[Client]:
    pause = ("--handshake-pause-ms", str(PAUSE_MS), "--handshake-timeout-ms", "60000:60000")
    return [site.client("client", family, COAPS, 20, *pause, *more) for family in FAMILIES]


def _half_way(site: Site, *more: str) -> list[Client]:
    """Clients held in their handshakes: 40 before the flight with the Finished, 40 before the second ClientHello.

    They are stopped within the pause that they make there, and so is the clock of this test.
    """
    further = _start(site, *more)
    await_stats(site, lambda sums: sums["handshaking"] == 40)
    for client in further:
        client.freeze()
    less = _start(site, *more)
    await_stats(site, lambda sums: sums["cookies"] == 80)
    for client in less:
        client.freeze()
    return [*further, *less]


def await_stats(site: Site, done: Callable[[Counter[str]], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done(sums := total(site.stats())):
        assert time.monotonic() < deadline, sums
        time.sleep(0.02)


@pytest.mark.parametrize("change", [_drain, _add, _remove], ids=["drain", "add", "remove"])
def test_handshake_under_way_is_finished_on_its_node(site: Site, change: Callable[[Site], None]) -> None:
    site.apply(SERVED)
    # Their own retransmissions would be no harm, but the figures below would not be exact.
    site.serve((*NODES, "n4"), COAPS, "--handshake-timeout-ms", "60000:60000")
    removed = change is _remove
    # A removed node finishes the handshake, and then its node id is nobody's.
    clients = _half_way(site, "--requests", "0" if removed else "3", "--gap-ms", "20")
    begun = per_node(site, "cookies")
    stages = total(site.stats())
    assert (stages["cookies"], stages["handshaking"], stages["handshakes"]) == (80, 40, 0)
    assert begun["n1"] > 0
    change(site)
    stages = total(site.stats())
    assert (stages["cookies"], stages["handshaking"], stages["handshakes"]) == (80, 40, 0)
    for client in clients:
        client.thaw()
    ends = finished(clients)
    assert ends["handshake_retransmissions"] == 0
    assert per_node(site, "handshakes") == begun
    assert per_node(site, "cookies") == begun  # nobody was asked twice
    assert total(site.stats())["errors"] == 0
    fresh = newcomers(site)
    if change is _add:
        assert fresh["n4"] > 0
    else:
        assert fresh["n1"] == 0


def test_control_handshakes_leave_a_node_that_takes_nothing(site: Site) -> None:
    """So the cases above can tell: these end elsewhere, asked for a cookie once more, or not at all."""
    site.apply(SERVED)
    site.serve(NODES, COAPS, "--handshake-timeout-ms", "60000:60000")
    clients = _half_way(site, "--requests", "0")
    begun = per_node(site, "cookies")
    assert begun["n1"] > 0
    site.order("disable", "s", "n1")
    for client in clients:
        client.thaw()
    await_stats(site, lambda sums: sums["cookies"] > 80 and sums["handshakes"] >= 80 - begun["n1"])
    assert per_node(site, "handshakes")["n1"] == 0
