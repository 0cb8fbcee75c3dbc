"""ICMP errors on the nftables plane: whatever would show a node is dropped."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import carried, is_icmp, only_on, own_site, showing_a_node, warnings
from tests.conformance.icmp import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DONT,
    UNREACHABLE,
    hop_limit,
    nothing_shown,
    quotes_of,
    send_error,
    unfragmented,
)
from tests.conformance.site import COAPS, Site, cid

from pointsman.lab.topology import ONLINK_VIP

pytestmark = only_on("nftables", because="xdp answers and translates errors instead, see test_icmp_xdp.py")


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family) as found:
        yield found


def suppressed(site: Site, count: int) -> None:
    """Expect just as many suppressed errors."""
    assert site.counted("icmp_suppressed") == count


def test_port_unreachable_of_a_node_does_not_reach_the_client(site: Site) -> None:
    site.serve()
    client = site.client()
    with nothing_shown(site) as capture:
        for _ in range(3):
            client.sendto(cid(1), (site.vip, COAPS))
    suppressed(site, 3)
    assert not [frame for frame in capture if is_icmp(frame, UNREACHABLE[site.family])]


def test_control_without_the_rule_the_client_sees_the_node(site: Site) -> None:
    site.serve()
    site.lab.run("gw", ["nft", "flush", "chain", "inet", "pointsman", f"icmp_error{site.family}"])
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        site.client().sendto(cid(1), (site.vip, COAPS))
        capture.wait(want=lambda frame: is_icmp(frame, UNREACHABLE[site.family]))
    assert showing_a_node(site.lab, capture) != []


def test_hop_limit_that_ends_at_the_gateway_is_not_reported(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    hop_limit(client, site, 1)
    with nothing_shown(site):
        site.dropped(client, cid(1))
    suppressed(site, 1)
    hop_limit(client, site, 2)
    assert site.ask(client, cid(1)).node == "n1"


def test_reject_of_somebody_elses_firewall_shows_no_node(site: Site) -> None:
    site.serve()
    site.lab.run(
        "gw",
        ["nft", "-f", "-"],
        text="table inet theirs { chain forward { type filter hook forward priority filter; policy accept; "
        "meta l4proto udp reject with icmpx admin-prohibited; }; }",
    )
    with nothing_shown(site):
        site.client().sendto(cid(1), (site.vip, COAPS))
    suppressed(site, 1)


def test_node_with_a_port_of_its_own_is_not_shown(site: Site) -> None:
    """The quoted port is the node's, not the listener's."""
    site.serve(ports={"n1": 15684, "n2": 5684})
    with nothing_shown(site):
        for node_id in (1, 2):
            site.client().sendto(cid(node_id), (site.vip, COAPS))
    suppressed(site, 2)


def test_node_that_was_removed_is_not_shown_either(site: Site) -> None:
    """Handshakes under way are finished on it, so errors about them come from it."""
    site.serve(nodes=["n1"])
    client = site.client()
    with nothing_shown(site):
        client.sendto(b"\x16\xfe\xfd" + bytes(40), (site.vip, COAPS))
    site.serve(nodes=["n2"])
    with nothing_shown(site):
        client.sendto(b"\x16\xfe\xfd" + bytes(40), (site.vip, COAPS))
    suppressed(site, 2)


@pytest.mark.parametrize("mtu", [1280, 1400])
def test_datagram_too_big_for_the_nodes_link_is_suppressed_and_warned_of(site: Site, mtu: int) -> None:
    for machine, interface in (("gw", "lan0"), ("n1", "eth0"), ("n2", "eth0"), ("n3", "eth0")):
        site.lab.run(machine, ["ip", "link", "set", interface, "mtu", str(mtu)])
    text = carried(site, families=[site.family])
    said = warnings(site.pointsman("check", str(site.file(text))))
    assert [line for line in said if f"clients' link wan0 has MTU 1500, nodes' link lan0 only {mtu}" in line]
    site.apply(text)
    site.nodes(["n1", "n2"])
    client, vip = site.client(), ONLINK_VIP[site.family]
    unfragmented(client, site)
    fitting = cid(1, body=bytes(mtu - 100))
    assert site.ask(client, fitting, vip=vip).node == "n1"
    with nothing_shown(site):
        site.dropped(client, cid(1, body=bytes(1420)), vip=vip)
    suppressed(site, 1)
    if site.family == 4:  # without the flag the gateway fragments
        free = site.client()
        free.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        assert site.ask(free, cid(1, body=bytes(1420)), vip=vip).node == "n1"
    site.lab.run("gw", ["ip", "link", "set", "wan0", "mtu", str(mtu)])
    assert not [line for line in warnings(site.pointsman("check", str(site.file(text)))) if "MTU" in line]


@pytest.mark.parametrize("family", [4], ids=["ip4"])  # IPv6 has no options in its header
def test_quoted_header_may_have_options(site: Site) -> None:
    site.serve()
    with nothing_shown(site):
        for words in range(11):
            client = site.client()
            if words:
                client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 4 * words)
            client.sendto(cid(1), (site.vip, COAPS))
    suppressed(site, 11)


def test_any_quote_of_a_services_packet_is_recognised(site: Site) -> None:
    """Whoever sends the error: a node, or a router on the way to it."""
    site.serve()
    client, node = site.lab.address("client", site.family), site.node_address("n1")
    quotes = quotes_of(site, client, node, COAPS)
    kinds = {4: [(3, 1), (11, 0), (12, 0)], 6: [(1, 3), (2, 0), (3, 0), (4, 1)]}[site.family]
    with nothing_shown(site) as capture:
        for machine in ("n1", "n3"):
            for kind, code in kinds:
                for quote in quotes:
                    send_error(site, machine, kind, code, quote)
    suppressed(site, 2 * len(kinds) * len(quotes))
    assert not [frame for frame in capture if is_icmp(frame, *(kind for kind, _ in kinds))]
