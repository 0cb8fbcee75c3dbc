"""ICMP errors: those that would show a node never leave, those that a node or somebody else needs do.

Everything that reaches the client is looked through for every node's address, byte for byte.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import (
    carried,
    ip,
    is_icmp,
    own_site,
    wait_for,
)
from tests.conformance.icmp import (
    PORT,
    TIME_EXCEEDED,
    TOO_BIG,
    UNREACHABLE,
    hop_limit,
    ip4_quote,
    ip6_quote,
    nothing_shown,
    send_error,
    udp_header,
    unfragmented,
)
from tests.conformance.site import COAPS, Site, cid

from pointsman.lab.topology import ONLINK_VIP


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family) as found:
        yield found


# about a service's packets


@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_node_without_a_route_is_not_shown(site: Site, kind: str) -> None:
    site.serve()
    site.lab.run("gw", ["ip", "route", "add", kind, site.node_address("n1")])
    with nothing_shown(site):
        site.client().sendto(cid(1), (site.vip, COAPS))
    # The kernel's error is dropped; with xdp the kernel does not come to make one.
    assert site.counted({"nftables": "icmp_suppressed", "xdp": "no_route"}[site.plane]) == 1


def test_node_that_does_not_answer_on_its_link_is_not_shown(site: Site) -> None:
    site.serve()
    site.lab.run("n1", ["ip", "link", "set", "eth0", "down"])
    with nothing_shown(site):
        site.client().sendto(cid(1), (site.vip, COAPS))
        if site.plane == "nftables":
            wait_for(lambda: site.counted("icmp_suppressed") == 1, timeout=10)
        else:  # the kernel, which was given the packet, gives up in silence

            def given_up() -> bool:
                rows = ip(site.lab, "gw", "neighbour", "show", "to", site.node_address("n1"), "dev", "lan0")
                return [row["state"] for row in rows] == [["FAILED"]]

            wait_for(given_up, timeout=10)
            assert site.counted("by_kernel") == 1


# crafted errors, for quotes that no node here would send


def test_errors_about_other_traffic_of_the_same_node_pass(site: Site) -> None:
    site.serve()
    client, node = site.lab.address("client", site.family), site.node_address("n1")
    udp = udp_header(40000, 9999) + bytes(20)
    if site.family == 4:
        tcp = bytearray(ip4_quote(client, node) + udp_header(40000, COAPS))
        tcp[9] = 6
        quotes = [ip4_quote(client, node, words=words) + udp for words in (5, 6, 15)] + [bytes(tcp)]
    else:
        fragment = struct.pack("!BBHI", 17, 0, 1, 7)
        quotes = [
            ip6_quote(client, node, 17) + udp,
            ip6_quote(client, node, 44) + fragment + udp,
            ip6_quote(client, node, 6) + udp_header(40000, COAPS),
        ]
    kind = UNREACHABLE[site.family]
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        for quote in quotes:
            send_error(site, "n1", kind, PORT[site.family], quote)
        capture.wait(len(quotes), want=lambda frame: is_icmp(frame, kind))
    assert site.counted("icmp_suppressed") == 0


# what passes


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_time_exceeded_and_port_unreachable_of_unrelated_traffic_pass(site: Site, transport: str) -> None:
    """A client that reaches a node's other ports through the gateway hears of their errors."""
    site.serve()
    node = site.node_address("n1")
    stream = transport == "tcp"
    port = COAPS if stream else 9999
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        near = site.lab.socket("client", site.inet, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        hop_limit(near, site, 1)
        near.setblocking(False)
        near.connect_ex((node, port))
        if not stream:
            near.send(b"x")
        capture.wait(want=lambda frame: is_icmp(frame, TIME_EXCEEDED[site.family]))
    if not stream:
        far = site.lab.socket("client", site.inet, socket.SOCK_DGRAM)
        far.settimeout(2)
        far.connect((node, port))
        far.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            far.recv(10)
        far.close()
    near.close()
    assert site.counted("icmp_suppressed") == 0


def test_too_big_about_unrelated_traffic_passes(site: Site) -> None:
    site.serve()
    site.lab.run("gw", ["ip", "link", "set", "lan0", "mtu", "1300"])
    handle = site.lab.socket("client", site.inet, socket.SOCK_DGRAM)
    unfragmented(handle, site)
    kind, wanted = TOO_BIG[site.family], site.node_address("n1")
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        handle.sendto(bytes(1400), (wanted, 9999))
        capture.wait(want=lambda frame: is_icmp(frame, kind))
    handle.close()
    assert site.counted("icmp_suppressed") == 0


def test_reply_too_big_for_the_clients_link_is_reported_to_the_node(site: Site) -> None:
    """So its path MTU works: the first is lost, and what it sends next fits or is fragmented."""
    lab, family = site.lab, site.family
    lab.run("gw", ["ip", "link", "set", "wan0", "mtu", "1280"])
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    server = site.node("n1")
    with nothing_shown(site), lab.capture("n1", "eth0", outgoing=False) as at_node:
        site.answer(arrival, bytes(1400))
        at_node.wait(want=lambda frame: is_icmp(frame, TOO_BIG[family]))

        def learned() -> bool:
            route = ip(lab, "n1", "route", "get", arrival.source[0])[0]
            return any(
                str(value) == "1280" for metric in route.get("metrics", []) for value in metric.values()
            )

        wait_for(learned)
        site.answer(arrival, bytes(1401))
        answer, source = client.recvfrom(70000)
    assert (answer, source[:2]) == (bytes(1401), (site.vip, COAPS))
    assert server.fileno() >= 0
    assert site.counted("icmp_suppressed") == 0


def test_ping_of_the_vip_and_of_a_node_is_nobodys_business(site: Site) -> None:
    site.apply(carried(site, families=[site.family]))
    for address in (ONLINK_VIP[site.family], site.node_address("n1")):
        site.lab.run("client", ["ping", "-c1", "-W2", address])
