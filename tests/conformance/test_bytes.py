"""Only addresses, ports, checksums and the hop limit change; sizes and fragments do not matter."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest
from tests.conformance.evidence import only_on
from tests.conformance.site import COAP, COAPS, UDP_SEGMENT, Site, cid, hello

from pointsman.wire import dtls
from pointsman.wire.checksum import internet_checksum, udp_checksum


def large(size: int) -> bytes:
    return dtls.cid_record(b"\2" + bytes(5), body=bytes(i % 251 for i in range(size)))


@pytest.mark.parametrize("size", [1500, 3000, 9000])
def test_fragmented_datagrams_pass_both_ways(site: Site, size: int) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, large(size))
    assert arrival.node == "n2"
    site.answer(arrival, large(size))
    payload, source = client.recvfrom(70000)
    assert (payload, source[:2]) == (large(size), (site.vip, COAPS))


def test_fragmented_datagrams_pass_for_flows(site: Site) -> None:
    site.serve(protocol="udp")
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    first = site.ask(client, b"x" * 3000, port=COAP)
    assert site.ask(client, b"small", port=COAP).node == first.node


def test_defragmenting_starts_no_connection_tracking(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    site.ask(site.client(), large(3000))
    assert site.tracked() == 0


@only_on(
    "nftables", because="xdp reassembles nothing: later fragments follow the first, test_fragments_xdp.py"
)
def test_control_without_defragmentation_fragments_are_lost(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.lab.run("gw", ["nft", "flush", "chain", "inet", "pointsman", "defragment"])
    site.dropped(client, large(3000))
    assert site.ask(client, cid(2)).node == "n2"


def test_udp_gso_burst_arrives_whole(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    records = [cid(2, seq=i, body=bytes([i]) * 600) for i in range(1, 21)]
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(records[0]))
    client.sendto(b"".join(records), (site.vip, COAPS))
    arrivals = site.arrivals(len(records))
    # With xdp the one that the kernel is given, to ask the neighbour, may be overtaken.
    order = sorted if site.plane == "xdp" else list
    assert order(arrival.payload for arrival in arrivals) == order(records)
    assert {arrival.node for arrival in arrivals} == {"n2"}


def test_hop_limit_falls_by_one(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    level, option = (
        (socket.IPPROTO_IP, socket.IP_TTL)
        if site.family == 4
        else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    )
    client.setsockopt(level, option, 37)
    with site.lab.capture("n1", "eth0", outgoing=False) as packets:
        site.send(client, cid(1))
        packet = packets.wait(1, timeout=2, want=lambda frame: frame.data.endswith(cid(1)))[0].packet
    assert packet[8 if site.family == 4 else 7] == 36


def raw_client(site: Site) -> socket.socket:
    """Sends whole IP packets; closed with the lab."""
    protocol = socket.IPPROTO_RAW
    return site.lab.socket("client", site.inet, socket.SOCK_RAW, protocol)


def packet_with_options(site: Site, source: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 packet with 8 bytes of options, or an IPv6 packet with a destination-options header."""
    ends = socket.inet_pton(site.inet, source[0]), socket.inet_pton(site.inet, site.vip)
    udp = struct.pack("!HHHH", source[1], COAPS, 8 + len(payload), 0)
    checksum = udp_checksum(ip_address(ends[0]), ip_address(ends[1]), udp + payload)
    udp = udp[:6] + struct.pack("!H", checksum) + payload
    if site.family == 4:
        options = b"\x94\x04\0\0" + b"\1\1\1\0"  # router alert (RFC 2113), then padding
        header = (
            struct.pack("!BBHHHBBH", 0x47, 0, 28 + len(udp), 7, 0, 64, 17, 0) + ends[0] + ends[1] + options
        )
        return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + udp
    options = b"\x11\0\1\4\0\0\0\0"  # next header UDP, PadN
    return struct.pack("!IHBB", 6 << 28, len(options) + len(udp), 60, 64) + ends[0] + ends[1] + options + udp


def test_ip_options_and_extension_headers_are_carried(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    source = client.getsockname()[:2]
    raw = raw_client(site)
    for payload, wanted in ((cid(2), {"n2"}), (hello(), {"n1", "n2"})):
        with site.lab.capture("n2", "eth0", outgoing=False) as packets:
            raw.sendto(packet_with_options(site, source, payload), (site.vip, 0))
            arrivals = site.arrivals()
            assert arrivals, "the packet with options was lost"
            assert arrivals[0].node in wanted
            assert (arrivals[0].payload, arrivals[0].source) == (payload, source)
            if payload == cid(2):
                frame = packets.wait(1, timeout=2, want=lambda frame: frame.data.endswith(cid(2)))[0]
                assert (frame.packet[0] if site.family == 4 else frame.packet[6]) == (
                    0x47 if site.family == 4 else 60
                )
    raw.close()


def test_nothing_but_addresses_hop_limit_and_checksum_change(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    source = client.getsockname()[:2]
    raw = raw_client(site)
    sent = packet_with_options(site, source, cid(2))
    with site.lab.capture("n2", "eth0", outgoing=False) as packets:
        raw.sendto(sent, (site.vip, 0))
        got = packets.wait(1, timeout=2, want=lambda frame: frame.data.endswith(cid(2)))[0].packet
    raw.close()
    node = socket.inet_pton(site.inet, site.node_address("n2"))
    expected = bytearray(sent)
    if site.family == 4:
        expected[8] -= 1
        expected[16:20] = node
        expected[10:12] = b"\0\0"
        expected[10:12] = struct.pack("!H", internet_checksum(bytes(expected[:28])))
        start = 28
    else:
        expected[7] -= 1
        expected[24:40] = node
        start = 48
    expected[start + 6 : start + 8] = b"\0\0"
    checksum = udp_checksum(ip_address(source[0]), ip_address(node), bytes(expected[start:]))
    expected[start + 6 : start + 8] = struct.pack("!H", checksum)
    assert got == bytes(expected)
