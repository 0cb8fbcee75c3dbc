"""Nodes speak first, and what they say arrives from the VIP."""

from __future__ import annotations

import time

import pytest
from tests.e2e.crowd import COAPS, NODES, SERVED, behind_nats, established, wandering

from pointsman.lab.demo_peers import end_all, total
from pointsman.lab.demo_site import Site

pytestmark = [pytest.mark.peers, pytest.mark.netns]

SILENT = ("--gap-ms", "60000")
"""One request, and then the client only listens."""


@pytest.mark.parametrize("cid", ["empty", "c0ffee", "none"])
def test_messages_of_nodes_reach_clients_from_the_vip(site: Site, cid: str) -> None:
    """The clients' sockets are connected: the kernel gives them nothing but what comes from the VIP."""
    site.apply(SERVED)
    site.serve(NODES, COAPS, "--initiate-ms", "150")
    clients = [*behind_nats(site, 10, "--cid", cid, *SILENT), *wandering(site, 10, "--cid", cid, *SILENT)]
    established(clients)
    time.sleep(1.0)
    sent = total(site.stats())
    said = total(client.now() for client in clients)
    ends = total(end_all(clients))
    assert sent["initiated"] >= 5 * 60
    assert said["unsolicited"] >= sent["initiated"] - 60  # at most one of each is under way
    assert (ends["requests"], ends["answered"], ends["wrong"], ends["closed"]) == (60, 60, 0, 0)
    assert site.counted("s", "reply") >= sent["initiated"]
