"""ICMP errors: those that would show a node never leave, those that a node or somebody else needs do.

Everything that reaches the client is looked through for every node's address, byte for byte.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from tests.conformance.evidence import (
    carried,
    ip,
    is_icmp,
    own_site,
    showing_a_node,
    wait_for,
    warnings,
)
from tests.conformance.site import COAPS, QUIET, Site, cid

from pointsman.lab.capture import Capture
from pointsman.lab.topology import ONLINK_VIP
from pointsman.wire.checksum import internet_checksum

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62

UNREACHABLE = {4: 3, 6: 1}
TIME_EXCEEDED = {4: 11, 6: 3}
PORT = {4: 3, 6: 4}
"""The code that says port unreachable."""


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family) as found:
        yield found


@contextmanager
def nothing_shown(site: Site) -> Iterator[Capture]:
    """See to it that no frame that reaches the client while the block runs holds a node's address."""
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        yield capture
        select.select([], [], [], QUIET)
    assert showing_a_node(site.lab, capture) == []


def suppressed(site: Site, count: int) -> None:
    """Expect just as many suppressed errors."""
    assert site.counted("icmp_suppressed") == count


def hop_limit(handle: socket.socket, site: Site, value: int) -> None:
    if site.family == 4:
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, value)
    else:
        handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, value)


def unfragmented(handle: socket.socket, site: Site) -> None:
    """Send with the don't-fragment flag, and whole even where IPv6 knows better."""
    if site.family == 4:
        handle.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        handle.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
        handle.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)


# about a service's packets


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


@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_node_without_a_route_is_not_shown(site: Site, kind: str) -> None:
    site.serve()
    site.lab.run("gw", ["ip", "route", "add", kind, site.node_address("n1")])
    with nothing_shown(site):
        site.client().sendto(cid(1), (site.vip, COAPS))
    suppressed(site, 1)


def test_node_that_does_not_answer_on_its_link_is_not_shown(site: Site) -> None:
    site.serve()
    site.lab.run("n1", ["ip", "link", "set", "eth0", "down"])
    with nothing_shown(site):
        site.client().sendto(cid(1), (site.vip, COAPS))
        wait_for(lambda: site.counted("icmp_suppressed") == 1, timeout=10)


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
    text = carried(site.lab, families=[site.family])
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


# crafted errors, for quotes that no node here would send


def udp_header(source: int, target: int) -> bytes:
    return struct.pack("!HHHH", source, target, 60, 0)


def ip4_quote(source: str, target: str, *, words: int = 5, fragment: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, 80, 1, fragment, 63, 17, 0)
    return header + ip_address(source).packed + ip_address(target).packed + b"\x01" * 4 * (words - 5)


def ip6_quote(source: str, target: str, next_header: int) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, 80, next_header, 63)
    return header + ip_address(source).packed + ip_address(target).packed


def send_error(site: Site, machine: str, kind: int, code: int, quote: bytes) -> None:
    """Send an ICMP error to the client from a machine behind the gateway."""
    message = struct.pack("!BBHI", kind, code, 0, 0) + quote
    client = site.lab.address("client", site.family)
    if site.family == 4:
        message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
        handle = site.lab.socket(machine, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    else:
        handle = site.lab.socket(machine, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with handle:
        handle.sendto(message, (client, 0))


def quotes_of(site: Site, client: str, node: str, port: int) -> list[bytes]:
    udp = udp_header(40000, port) + bytes(20)
    if site.family == 4:
        quoted = [ip4_quote(client, node, words=words) + udp for words in range(5, 16)]
        quoted.append(ip4_quote(client, node, fragment=0x2000) + udp)  # a first fragment
        return [*quoted, ip4_quote(client, node, fragment=0x0090) + bytes(28)]  # a later one
    fragment = struct.pack("!BBHI", 17, 0, 1, 7)
    later = struct.pack("!BBHI", 17, 0, 1440, 7)
    options = struct.pack("!BBHI", 17, 0, 0x0104, 0)
    before_options = struct.pack("!BBHI", 60, 0, 1, 7)
    return [
        ip6_quote(client, node, 17) + udp,
        ip6_quote(client, node, 44) + fragment + udp,
        ip6_quote(client, node, 44) + later + bytes(28),
        ip6_quote(client, node, 44) + before_options + options + udp,
        *(ip6_quote(client, node, extension) + options + udp for extension in (0, 43, 60)),
    ]


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
    kind, wanted = {4: 3, 6: 2}[site.family], site.node_address("n1")
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
        at_node.wait(want=lambda frame: is_icmp(frame, {4: 3, 6: 2}[family]))

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
    site.apply(carried(site.lab, families=[site.family]))
    for address in (ONLINK_VIP[site.family], site.node_address("n1")):
        site.lab.run("client", ["ping", "-c1", "-W2", address])
