"""Fragments on the XDP plane, which reassembles nothing: the first decides, and later ones follow it."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest
from tests.conformance.evidence import only_on, wait_for
from tests.conformance.site import COAP, COAPS, QUIET, Site, cid, hello

from pointsman.wire import dtls
from pointsman.wire.checksum import internet_checksum, udp_checksum

pytestmark = only_on("xdp", because="on nftables the kernel reassembles, see test_bytes.py")


def fragments(
    site: Site,
    source: tuple[str, int],
    target: tuple[str, int],
    payload: bytes,
    *,
    number: int,
    size: int = 1024,
) -> list[bytes]:
    """A UDP datagram in whole packets of one fragment each."""
    ends = socket.inet_pton(site.inet, source[0]), socket.inet_pton(site.inet, target[0])
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0)
    checksum = udp_checksum(ip_address(ends[0]), ip_address(ends[1]), udp + payload)
    body = udp[:6] + struct.pack("!H", checksum) + payload
    found = []
    for start in range(0, len(body), size):
        piece, more = body[start : start + size], start + size < len(body)
        if site.family == 4:
            offset = start // 8 | (0x2000 if more else 0)
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(piece), number, offset, 64, 17, 0) + b"".join(
                ends
            )
            head = head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:]
        else:
            head = struct.pack("!IHBB", 6 << 28, 8 + len(piece), 44, 64) + b"".join(ends)
            head += struct.pack("!BBHI", 17, 0, start | more, number)
        found.append(head + piece)
    return found


def send_raw(site: Site, machine: str, to: str, packets: list[bytes]) -> None:
    with site.lab.socket(machine, site.inet, socket.SOCK_RAW, socket.IPPROTO_RAW) as handle:
        for packet in packets:
            handle.sendto(packet, (to, 0))


@pytest.mark.parametrize(
    ("protocol", "payload"),
    [
        ("dtls", dtls.cid_record(b"\2" + bytes(5), body=bytes(2500))),
        ("dtls", hello() + bytes(2500)),
        ("udp", bytes(2500)),
    ],
    ids=["by cid", "by flow", "udp"],
)
def test_later_fragments_follow_the_first(site: Site, protocol: str, payload: bytes) -> None:
    port = COAPS if protocol == "dtls" else COAP
    site.serve(protocol=protocol)
    site.nodes(["n1", "n2"], port)
    client = site.client()
    source = client.getsockname()[:2]
    for number in range(1, 9):
        send_raw(site, "client", site.vip, fragments(site, source, (site.vip, port), payload, number=number))
        (arrival,) = site.arrivals()
        assert (arrival.payload, arrival.source) == (payload, source)
    assert site.counted("fragment") == 8 * 2
    assert site.counted("fragment_lost") == 0
    # The first of them alone is a packet of the service.
    assert site.counted("cid") + site.counted("flow") + site.counted("balanced") == 8


def test_later_fragments_among_each_other_may_come_in_any_order(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    payload = dtls.cid_record(b"\1" + bytes(5), body=bytes(4000))
    first, *later = fragments(site, site.client().getsockname()[:2], (site.vip, COAPS), payload, number=7)
    send_raw(site, "client", site.vip, [first, *reversed(later)])
    assert [arrival.payload for arrival in site.arrivals()] == [payload]


def test_fragment_before_its_first_is_dropped_and_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    payload = dtls.cid_record(b"\1" + bytes(5), body=bytes(1500))
    first, later = fragments(site, site.client().getsockname()[:2], (site.vip, COAPS), payload, number=9)
    send_raw(site, "client", site.vip, [later, first])
    assert site.arrivals(wait=QUIET) == []
    assert (site.counted("fragment_lost"), site.counted("fragment")) == (1, 0)
    send_raw(site, "client", site.vip, [first, later])
    assert [arrival.payload for arrival in site.arrivals()] == [payload]


def test_datagrams_of_two_clients_are_told_apart_by_address_and_number(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    pool = {4: "198.19.{}.1", 6: "2001:db8:19::{}:1"}[site.family]
    sets = []
    for number in (3, 4):
        for node in (1, 2):
            source = (pool.format(10 + node), 40000)
            record = dtls.cid_record(bytes([node]) + bytes(5), body=bytes([number]) * 1500)
            sets.append((record, fragments(site, source, (site.vip, COAPS), record, number=number)))
    send_raw(site, "client", site.vip, [packets[part] for part in (0, 1) for _, packets in sets])
    found = site.arrivals(4)
    assert sorted(arrival.payload for arrival in found) == sorted(record for record, _ in sets)
    assert all(arrival.node == f"n{arrival.payload[11]}" for arrival in found)


def test_fragments_of_a_reply_leave_as_the_listeners(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    site.answer(arrival, bytes(5000))
    answer, source = client.recvfrom(70000)
    assert (answer, source[:2]) == (bytes(5000), (site.vip, COAPS))
    assert site.counted("fragment") == 3
    # A later one alone would show the node.
    whole = fragments(site, (site.node_address("n1"), COAPS), arrival.source, bytes(1500), number=11)
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        send_raw(site, "n1", arrival.source[0], whole[1:])
        wait_for(lambda: site.counted("fragment_lost") == 1)
    node = socket.inet_pton(site.inet, site.node_address("n1"))
    assert [frame for frame in capture if node in frame.data] == []


def test_fragments_of_other_traffic_are_left_to_the_kernel(site: Site) -> None:
    """A node's other ports, and addresses that are nobody's of a service."""
    site.serve(nodes=["n1"])
    server = site.node("n1", 9999)
    client = site.client()
    client.sendto(bytes(3000), (site.node_address("n1"), 9999))
    assert site.arrivals()[0].payload == bytes(3000)
    server.sendto(bytes(3001), client.getsockname()[:2])
    answer, source = client.recvfrom(70000)
    assert (answer, source[:2]) == (bytes(3001), (site.node_address("n1"), 9999))
    assert site.counted("fragment_lost") == 0
