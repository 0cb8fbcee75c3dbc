"""What nodes send leaves as the listener's, without state, whoever spoke first."""

from __future__ import annotations

import socket

import pytest
from tests.conformance.site import COAP, COAPS, SO_NO_CHECK, UDP_NO_CHECK6_TX, Site, cid, hello

OTHER_PORT = 15684


def without_checksum(site: Site, handle: socket.socket) -> None:
    """Have the kernel send UDP checksum 0; for IPv6 the receiver must agree (RFC 6935)."""
    if site.family == 4:
        handle.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    else:
        handle.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)


def accept_no_checksum(site: Site, handle: socket.socket) -> None:
    if site.family == 6:
        handle.setsockopt(socket.IPPROTO_UDP, 102, 1)  # UDP_NO_CHECK6_RX


@pytest.mark.parametrize("protocol", ["dtls", "udp"])
def test_node_may_speak_first(site: Site, protocol: str) -> None:
    port = COAPS if protocol == "dtls" else COAP
    site.serve(protocol=protocol)
    client = site.client()
    for name in ("n1", "n2"):
        site.node(name, port).sendto(b"news", client.getsockname()[:2])
        payload, source = client.recvfrom(100)
        assert (payload, source[:2]) == (b"news", (site.vip, port))
    assert site.counted("reply") == 2


def test_control_without_pointsman_the_node_shows_its_own_address(site: Site) -> None:
    site.serve()
    site.pointsman("down")
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        site.lab.sysctl("gw", key, "1")
    client = site.client()
    site.node("n1").sendto(b"news", client.getsockname()[:2])
    assert client.recvfrom(100)[1][0] == site.node_address("n1")
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        site.lab.sysctl("gw", key, "0")


def test_other_traffic_of_a_node_keeps_its_own_source(site: Site) -> None:
    site.serve()
    client = site.client()
    other = site.lab.socket("n1", site.inet, socket.SOCK_DGRAM)
    other.bind((site.node_address("n1"), 9999))
    other.sendto(b"mine", client.getsockname()[:2])
    assert client.recvfrom(100)[1][:2] == (site.node_address("n1"), 9999)
    other.close()


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "no-checksum"])
@pytest.mark.parametrize(
    "ports", [{"n1": OTHER_PORT, "n2": OTHER_PORT}, {"n1": OTHER_PORT}, {"n1": 1, "n2": 65535}]
)
def test_node_ports_are_rewritten_both_ways(site: Site, ports: dict[str, int], checksum: bool) -> None:
    site.serve(nodes=3, ports=ports)
    for name in ("n1", "n2", "n3"):
        handle = site.node(name, ports.get(name, COAPS))
        accept_no_checksum(site, handle)
        if not checksum:
            without_checksum(site, handle)
    for wanted in (1, 2, 3):
        client = site.client()
        accept_no_checksum(site, client)
        if not checksum:
            without_checksum(site, client)
        by_cid = site.ask(client, cid(wanted))
        assert (by_cid.node, by_cid.port) == (f"n{wanted}", ports.get(f"n{wanted}", COAPS))
        first, second = site.ask(client, hello()), site.ask(client, hello(message_seq=1))
        assert (first.node, first.port) == (second.node, second.port)
        assert first.port == ports.get(first.node, COAPS)


def test_listener_may_have_its_own_node_port(site: Site) -> None:
    """Two VIPs in front of the same nodes are told apart by the nodes' ports."""
    text = site.config().replace(
        "listen = [",
        f'listen = [{{ address = "{site.at(site.other_vip, COAPS)}", node_port = {OTHER_PORT} }}, ',
    )
    site.apply(text)
    for port in (COAPS, OTHER_PORT):
        site.nodes(["n1", "n2"], port)
    client = site.client()
    assert site.ask(client, cid(2)).port == COAPS
    assert site.ask(client, cid(2), vip=site.other_vip).port == OTHER_PORT
    assert site.ask(client, hello(), vip=site.other_vip).port == OTHER_PORT


def test_zero_udp_checksum_stays_zero(site: Site) -> None:
    site.serve()
    handle = site.node("n1")
    accept_no_checksum(site, handle)
    client = site.client()
    without_checksum(site, client)
    with site.lab.capture("n1", "eth0", outgoing=False) as packets:
        site.send(client, cid(1))
        frame = packets.wait(1, timeout=2, want=lambda frame: frame.data.endswith(cid(1)))[0]
    header = len(frame.packet) - len(cid(1)) - 8
    assert frame.packet[header + 6 : header + 8] == b"\0\0"
