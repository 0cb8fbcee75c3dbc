"""Sessions whose address changes stay on their node, and the two controls do not."""

from __future__ import annotations

import time

import pytest
from tests.e2e.crowd import (
    BY_ADDRESS,
    COAPS,
    NODES,
    SERVED,
    STRICT,
    await_answers,
    behind_nats,
    established,
    finished,
    nothing_under_way,
    per_node,
    remap,
    unharmed,
    wandering,
)

from pointsman.lab.demo_peers import Client, total
from pointsman.lab.demo_site import Site

pytestmark = [pytest.mark.peers, pytest.mark.netns]


def test_sessions_survive_new_nat_mappings_with_the_same_sockets(site: Site) -> None:
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    clients = behind_nats(site, 30, "--gap-ms", "100", *STRICT)
    established(clients)
    for turn in range(6):
        before = [client.now()["answered"] for client in clients]
        with nothing_under_way(clients):
            remap(site, turn)
        for client, answered in zip(clients, before, strict=True):
            await_answers(client, answered + 2 * client.sessions)
    ends = unharmed(clients)
    assert ends["retries"] == 0
    nodes = total(site.stats())
    assert (nodes["handshakes"], nodes["moved"]) == (120, 6 * 120)
    assert nodes["unknown_cid"] == nodes["errors"] == 0


def test_sessions_survive_new_nat_mappings_while_answers_are_under_way(site: Site) -> None:
    """An answer on its way to the old mapping is the NAT's loss: those requests are asked again."""
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    clients = behind_nats(site, 30, "--gap-ms", "20", "--timeout-ms", "400", "--retries", "2")
    established(clients)
    for turn in range(6):
        remap(site, turn)
        await_moves(site, (turn + 1) * 120)
    unharmed(clients)
    assert total(site.stats())["handshakes"] == 120


def await_moves(site: Site, moves: int, patience: float = 15.0) -> None:
    """Wait until the nodes have seen so many changes of address: every session's, however busy the machine is."""
    end = time.monotonic() + patience
    while total(site.stats())["moved"] < moves:
        assert time.monotonic() < end, f"{total(site.stats())} and not {moves} moves"
        time.sleep(0.1)


def test_sessions_survive_new_sockets_and_addresses(site: Site) -> None:
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    clients = wandering(site, 110, "--requests", "13", "--gap-ms", "60", *STRICT, every=2)
    ends = finished(clients)
    assert (ends["sessions"], ends["rebinds"], ends["answered"]) == (220, 220 * 6, 220 * 13)
    nodes = total(site.stats())
    assert (nodes["handshakes"], nodes["moved"]) == (220, 220 * 6)
    assert all(count > 0 for count in per_node(site, "handshakes").values())


def test_sessions_survive_when_client_and_nat_change_together(site: Site) -> None:
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    clients = behind_nats(site, 25, "--gap-ms", "100", *STRICT)
    established(clients)
    for turn in range(3):
        with nothing_under_way(clients):
            remap(site, turn)
        for client in clients:
            client.rebind()
        for client in clients:
            client.wait_for("progress", len(client.events("progress")) + 1)
    ends = unharmed(clients)
    assert ends["rebinds"] == 3 * 100
    assert total(site.stats())["handshakes"] == 100


def _broken(clients: list[Client]) -> tuple[int, int]:
    """How many sessions broke, of how many."""
    for client in clients:
        client.finish()
    return sum(len(client.broken) for client in clients), sum(client.sessions for client in clients)


def test_control_balancing_by_address_loses_sessions_that_rebind(site: Site) -> None:
    site.apply(BY_ADDRESS)
    site.serve(NODES, COAPS)
    still = wandering(site, 20, "--requests", "8", "--gap-ms", "20", "--timeout-ms", "300", every=1000)
    assert _broken(still) == (0, 40)  # so it is the rebinding that breaks them
    clients = wandering(site, 20, "--requests", "8", "--gap-ms", "20", "--timeout-ms", "300", every=1)
    broken, sessions = _broken(clients)
    assert sessions == 40
    assert broken >= 30  # a session of 7 moves among 3 nodes is lucky once in 2,187


def test_control_sessions_without_a_cid_are_lost_when_they_rebind(site: Site) -> None:
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    options = ("--cid", "none", "--requests", "4", "--gap-ms", "20", "--timeout-ms", "300")
    assert _broken(wandering(site, 20, *options, every=1000)) == (0, 40)
    assert _broken(wandering(site, 20, *options, every=2)) == (40, 40)
