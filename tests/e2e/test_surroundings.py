"""Other people's rules, connection tracking, and nodes on ports of their own."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest
from tests.e2e.crowd import (
    COAPS,
    NODES,
    SERVED,
    STRICT,
    behind_nats,
    established,
    finished,
    nothing_under_way,
    per_node,
    remap,
    unharmed,
    wandering,
)

from pointsman.lab.demo_peers import total
from pointsman.lab.demo_site import FAMILIES, Site, of_ports

pytestmark = [pytest.mark.peers, pytest.mark.netns]


def _plain_datagrams(site: Site) -> None:
    for family in FAMILIES:
        inet = socket.AF_INET6 if family == 6 else socket.AF_INET
        with site.lab.socket("client", inet, socket.SOCK_DGRAM) as handle:
            handle.sendto(b"plain", (site.lab.address("n1", family), 9))
    time.sleep(0.1)


def test_foreign_masquerade_does_not_touch_dtls_and_nothing_of_it_is_tracked(site: Site) -> None:
    site.foreign_masquerade()
    site.apply(SERVED)
    site.serve(NODES, COAPS, "--initiate-ms", "200")
    clients = [
        *behind_nats(site, 10, "--gap-ms", "50", *STRICT),
        *wandering(site, 10, "--gap-ms", "50", *STRICT, every=4),
        *(site.client("client", family, COAPS, 5, "--cid", "none", *STRICT) for family in FAMILIES),
    ]
    established(clients)
    tracked = [site.tracked()]  # while handshakes are remembered
    with nothing_under_way(clients):
        remap(site, 1)
        time.sleep(0.4)  # nodes speak while nobody else does
        tracked.append(site.tracked())
        for client in clients[-2:]:  # they are not behind the NATs
            client.thaw()
    site.order("drain", "s", "n1")
    time.sleep(0.5)
    unharmed(clients)
    tracked.append(site.tracked())
    assert tracked == [[], [], []]
    _plain_datagrams(site)
    entries = site.tracked()
    assert len(entries) == 2, entries  # so tracking is on
    assert of_ports(entries, [COAPS]) == []


@pytest.mark.parametrize(
    "ports",
    [dict.fromkeys(NODES, 15684), {"n1": 15684, "n3": 25684}],
    ids=["one port", "three ports"],
)
def test_nodes_may_have_ports_of_their_own(site: Site, ports: dict[str, int]) -> None:
    site.foreign_masquerade()
    site.apply(replace(SERVED, node_ports=ports))
    for node in NODES:
        site.serve((node,), ports.get(node, COAPS), "--initiate-ms", "250")
    ends = finished(wandering(site, 30, "--requests", "12", "--gap-ms", "30", *STRICT, every=2))
    assert (ends["answered"], ends["rebinds"]) == (60 * 12, 60 * 5)
    without = [
        site.client("client", family, COAPS, 10, "--cid", "none", "--requests", "8", *STRICT)
        for family in FAMILIES
    ]
    established(without)
    assert total(client.now() for client in without)["wrong"] == 0
    finished(without)
    assert min(per_node(site, "handshakes").values()) > 0
    assert total(site.stats())["handshakes"] == 80
    assert site.tracked() == []
