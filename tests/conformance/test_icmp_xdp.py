"""ICMP errors on the XDP plane: answered as the listener, and translated on their way to clients and nodes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import ip, is_icmp, only_on, own_site, wait_for
from tests.conformance.icmp import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DONT,
    PORT,
    TIME_EXCEEDED,
    TOO_BIG,
    UNREACHABLE,
    IcmpError,
    errors,
    hop_limit,
    ip4_quote,
    ip6_quote,
    nothing_shown,
    quotes_of,
    read_error,
    send_error,
    udp_header,
    unfragmented,
)
from tests.conformance.site import COAP, COAPS, Site, cid, hello

from pointsman.lab.capture import Capture, Frame
from pointsman.wire import dtls

pytestmark = only_on(
    "xdp", because="nftables drops every error that would show a node, see test_icmp_nftables.py"
)


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family) as found:
        yield found


def from_vip(site: Site, capture: Capture, kind: int, to: tuple[str, int]) -> IcmpError:
    """The one error of a kind, which comes from the VIP and quotes what its receiver sent to or from there."""
    capture.wait(want=lambda frame: is_icmp(frame, kind))
    (error,) = errors(capture, kind)
    assert (error.source, error.destination) == (site.vip, to[0])
    return error


def sent(capture: Capture, payload: bytes) -> bytes:
    """The packet with this payload as it left."""
    (frame,) = capture.wait(want=lambda frame: frame.outgoing and frame.data.endswith(payload))
    return frame.packet


def narrow(site: Site, mtu: int) -> None:
    """Give the nodes' link another MTU."""
    for machine, interface in (("gw", "lan0"), ("n1", "eth0"), ("n2", "eth0"), ("n3", "eth0")):
        site.lab.run(machine, ["ip", "link", "set", interface, "mtu", str(mtu)])


def path_mtu(site: Site, machine: str, to: str) -> int | None:
    """What the machine has learned of the way to an address."""
    route = ip(site.lab, machine, "route", "get", to)[0]
    found = [metric["mtu"] for metric in route.get("metrics", []) if "mtu" in metric]
    return int(found[0]) if found else None


# errors of the gateway's own


@pytest.mark.parametrize("payload", [cid(1), hello()], ids=["by cid", "by flow"])
def test_hop_limit_that_ends_at_the_gateway_is_answered_as_the_listener(site: Site, payload: bytes) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    hop_limit(client, site, 1)
    with nothing_shown(site), site.lab.capture("client", "eth0") as capture:
        site.dropped(client, payload)
        error = from_vip(site, capture, TIME_EXCEEDED[site.family], client.getsockname())
        packet = sent(capture, payload)
    assert error.code == 0
    assert packet.startswith(error.quote)
    assert len(error.quote) >= len(packet) - 3
    assert (site.counted("hop_limit"), site.counted("icmp_suppressed")) == (1, 0)
    (listener,) = site.status()["services"][0]["listeners"]
    assert listener["counters"]["hop_limit"]["packets"] == 1
    hop_limit(client, site, 2)
    site.ask(client, payload)


def test_hop_limit_of_a_reply_that_ends_at_the_gateway_is_told_to_the_node(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    hop_limit(site.node("n1"), site, 1)
    with site.lab.capture("n1", "eth0") as capture:
        site.answer(arrival, b"this goes nowhere")
        error = from_vip(site, capture, TIME_EXCEEDED[site.family], (site.node_address("n1"), COAPS))
        packet = sent(capture, b"this goes nowhere")
    assert packet.startswith(error.quote)
    assert error.quoted_destination == client.getsockname()[:2]
    assert site.counted("hop_limit") == 1


@pytest.mark.parametrize("mtu", [1280, 1400])
def test_datagram_too_big_for_the_nodes_link_is_answered_as_the_listener(site: Site, mtu: int) -> None:
    narrow(site, mtu)
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.ask(client, cid(1))
    unfragmented(client, site)
    big = cid(1, body=bytes(1420))
    with nothing_shown(site), site.lab.capture("client", "eth0") as capture:
        site.dropped(client, big)
        error = from_vip(site, capture, TOO_BIG[site.family], client.getsockname())
        packet = sent(capture, big)
    assert (error.code, error.mtu) == ({4: 4, 6: 0}[site.family], mtu)
    assert packet.startswith(error.quote)
    assert (site.counted("too_big"), site.counted("icmp_suppressed")) == (1, 0)
    wait_for(lambda: path_mtu(site, "client", site.vip) == mtu)
    assert site.ask(site.client(), big).node == "n1"  # in fragments
    headers = {4: 28, 6: 48}[site.family]
    assert site.ask(client, cid(1, body=bytes(mtu - headers - len(cid(1, body=b""))))).node == "n1"
    assert site.counted("too_big") == 1


@pytest.mark.parametrize("family", [4], ids=["ip4"])  # nobody fragments IPv6 on its way
def test_datagram_that_may_be_fragmented_is_cut_up_by_the_kernel(site: Site) -> None:
    narrow(site, 1400)
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    for node_id in (1, 2):  # so that the neighbours are known
        site.ask(client, cid(node_id))
    before = site.counted("by_kernel")
    client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    for payload in (cid(1, body=bytes(1420)), hello() + bytes(1350)):
        site.ask(client, payload)
    assert site.counted("by_kernel") - before >= 2  # an answer may go that way, too
    assert site.counted("too_big") == 0


@pytest.mark.parametrize("free", [False, True], ids=["don't fragment", "may be fragmented"])
def test_first_packet_to_an_unknown_neighbour_may_be_too_big_as_well(site: Site, free: bool) -> None:
    narrow(site, 1400)
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    if free and site.family == 4:
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        site.send(client, cid(1, body=bytes(1420)))
        return
    unfragmented(client, site)
    with site.lab.capture("client", "eth0") as capture:
        client.sendto(cid(1, body=bytes(1420)), (site.vip, COAPS))
        assert from_vip(site, capture, TOO_BIG[site.family], client.getsockname()).mtu == 1400


@pytest.mark.parametrize("fragments", [False, True], ids=["don't fragment", "may be fragmented"])
def test_reply_too_big_for_the_clients_link_lowers_the_nodes_path_mtu(site: Site, fragments: bool) -> None:
    site.lab.run("gw", ["ip", "link", "set", "wan0", "mtu", "1300"])
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    if fragments and site.family == 4:
        site.node("n1").setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    elif not fragments:
        unfragmented(site.node("n1"), site)
    with nothing_shown(site), site.lab.capture("n1", "eth0") as capture:
        site.answer(arrival, bytes(1400))
        error = from_vip(site, capture, TOO_BIG[site.family], (site.node_address("n1"), COAPS))
        assert error.mtu == 1300
        assert sent(capture, bytes(1400)).startswith(error.quote)
    wait_for(lambda: path_mtu(site, "n1", arrival.source[0]) == 1300)
    assert site.counted("too_big") == 1
    size = 1401 if fragments else 1200
    site.answer(arrival, bytes(size))
    answer, source = client.recvfrom(70000)
    assert (answer, source[:2]) == (bytes(size), (site.vip, COAPS))


# errors of nodes, and of routers behind


@pytest.mark.parametrize("port", [COAPS, 15684], ids=["the listener's port", "a port of its own"])
def test_port_unreachable_of_a_node_reaches_the_client_as_from_the_listener(site: Site, port: int) -> None:
    site.serve(ports={"n1": port})
    client = site.client()
    client.connect((site.vip, COAPS))
    with nothing_shown(site), site.lab.capture("client", "eth0") as capture:
        client.send(cid(1))
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        error = from_vip(site, capture, UNREACHABLE[site.family], client.getsockname())
    assert error.code == PORT[site.family]
    assert (error.quoted_source, error.quoted_destination) == (client.getsockname()[:2], (site.vip, COAPS))
    assert (site.counted("icmp_error"), site.counted("icmp_suppressed")) == (1, 0)


def test_port_unreachable_of_a_node_that_was_removed_is_translated_too(site: Site) -> None:
    site.serve(nodes=["n1"])
    site.nodes(["n1"])
    client = site.client()
    client.connect((site.vip, COAPS))
    client.send(hello())
    assert site.arrivals()[0].node == "n1"
    site.serve(nodes=["n2"])
    site.close_node("n1")
    with nothing_shown(site), site.lab.capture("client", "eth0") as capture:
        client.send(hello(message_seq=1))
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        from_vip(site, capture, UNREACHABLE[site.family], client.getsockname())


@pytest.mark.parametrize("family", [4], ids=["ip4"])  # IPv6 has no options in its header
def test_quoted_header_may_have_options(site: Site) -> None:
    site.serve()
    with nothing_shown(site) as capture:
        for words in range(11):
            client = site.client()
            if words:
                client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 4 * words)
            client.sendto(cid(1), (site.vip, COAPS))
        capture.wait(11, want=lambda frame: is_icmp(frame, UNREACHABLE[4]))
    found = errors(capture, UNREACHABLE[4])
    assert {error.quoted_destination for error in found} == {(site.vip, COAPS)}
    assert site.counted("icmp_error") == 11


def test_any_quote_with_ports_is_translated_and_the_others_are_dropped(site: Site) -> None:
    """Whoever sends the error: a node, or a router on the way to it."""
    site.serve()
    client, node = site.lab.address("client", site.family), site.node_address("n1")
    quotes = quotes_of(site, client, node, COAPS)
    without_ports = 1  # the later fragment
    kinds = {4: [(3, 1), (11, 0), (12, 0)], 6: [(1, 3), (2, 0), (3, 0), (4, 1)]}[site.family]
    senders = ("n1", "n3")
    wanted = len(senders) * len(kinds) * (len(quotes) - without_ports)
    numbers = [kind for kind, _ in kinds]
    with nothing_shown(site) as capture:
        for machine in senders:
            for kind, code in kinds:
                for quote in quotes:
                    send_error(site, machine, kind, code, quote)
        capture.wait(wanted, want=lambda frame: is_icmp(frame, *numbers))
    found = errors(capture, *numbers)
    assert len(found) == wanted
    assert {(each.source, each.quoted_source, each.quoted_destination) for each in found} == {
        (site.vip, (client, 40000), (site.vip, COAPS))
    }
    assert site.counted("icmp_error") == wanted
    assert site.counted("icmp_suppressed") == len(senders) * len(kinds) * without_ports


# errors of clients, and of routers before them


@pytest.mark.parametrize(
    ("protocol", "payload"),
    [("udp", b"x"), ("dtls", hello()), ("dtls", cid(1))],
    ids=["udp", "handshake", "session by cid"],
)
def test_port_unreachable_of_a_client_reaches_the_node_that_sent(
    site: Site, protocol: str, payload: bytes
) -> None:
    site.serve(protocol=protocol)
    port = COAPS if protocol == "dtls" else COAP
    site.nodes(["n1", "n2"], port)
    client = site.client()
    arrival = site.ask(client, payload, port=port)
    gone = client.getsockname()[:2]
    client.close()
    server = site.node(arrival.node, port)
    server.connect(gone)
    server.setblocking(True)
    server.settimeout(4)
    with site.lab.capture(arrival.node, "eth0", outgoing=False) as capture:
        server.send(dtls.application_data(epoch=1, seq=1, body=bytes(20)))
        with pytest.raises(ConnectionRefusedError):
            server.recv(100)
        capture.wait(want=lambda frame: is_icmp(frame, UNREACHABLE[site.family]))
    (error,) = errors(capture, UNREACHABLE[site.family])
    assert (error.source, error.destination) == (gone[0], site.node_address(arrival.node))
    assert (error.quoted_source, error.quoted_destination) == ((site.node_address(arrival.node), port), gone)
    assert (site.counted("icmp_error"), site.counted("icmp_unknown")) == (1, 0)


def quote(site: Site, source: tuple[str, int], target: tuple[str, int], size: int = 1400) -> bytes:
    """What a router would quote of a datagram."""
    head = ip4_quote(source[0], target[0]) if site.family == 4 else ip6_quote(source[0], target[0], 17)
    return head + udp_header(source[1], target[1]) + bytes(size - len(head) - 8)[:100]


def test_error_about_what_nobody_is_remembered_for_is_dropped_and_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    about = quote(site, (site.vip, COAPS), arrival.source)

    def tell() -> None:
        send_error(site, "client", UNREACHABLE[site.family], PORT[site.family], about, to=site.vip)

    def is_error(frame: Frame) -> bool:
        return is_icmp(frame, UNREACHABLE[site.family])

    with site.lab.capture("n1", "eth0", outgoing=False) as n1:
        tell()
        n1.wait(want=is_error)
    assert (site.counted("icmp_error"), site.counted("icmp_unknown")) == (1, 0)
    site.forget_flows("flows", "origins")
    with (
        site.lab.capture("n1", "eth0", outgoing=False) as n1,
        site.lab.capture("n2", "eth0", outgoing=False) as n2,
    ):
        tell()
        wait_for(lambda: site.counted("icmp_unknown") == 1)
    assert [frame for seen in (n1, n2) for frame in seen if is_error(frame)] == []
    assert site.counted("icmp_error") == 1


@pytest.mark.parametrize("payload", [hello(), cid(2)], ids=["by flow", "by cid"])
def test_too_big_of_a_router_before_the_client_lowers_the_nodes_path_mtu(site: Site, payload: bytes) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, payload)
    about = quote(site, (site.vip, COAPS), arrival.source)
    code = {4: 4, 6: 0}[site.family]
    send_error(site, "client", TOO_BIG[site.family], code, about, to=site.vip, rest=1320)
    wait_for(lambda: path_mtu(site, arrival.node, arrival.source[0]) == 1320)
    with site.lab.capture(arrival.node, "eth0") as capture:
        site.answer(arrival, bytes(1400))
        assert client.recv(2000) == bytes(1400)
    assert max(len(frame.packet) for frame in capture if frame.outgoing) <= 1320
    assert site.counted("icmp_error") == 1


def test_path_mtu_discovery_of_a_node_goes_through_the_gateway_and_a_nat(plane: str, family: int) -> None:
    """The narrow link is behind the client's NAT, which reports it to the VIP."""
    with own_site(plane, family, nats=1) as site:
        for machine, interface in (("nat1", "in0"), ("dev1", "eth0")):
            site.lab.run(machine, ["ip", "link", "set", interface, "mtu", "1320"])
        site.serve()
        site.nodes(["n1", "n2"])
        client = site.client(machine="dev1")
        arrival = site.ask(client, cid(1))
        with site.lab.capture("n1", "eth0", outgoing=False) as capture:
            site.answer(arrival, bytes(1400))
            (frame,) = capture.wait(want=lambda frame: is_icmp(frame, TOO_BIG[family]))
        assert read_error(frame).mtu == 1320
        wait_for(lambda: path_mtu(site, "n1", arrival.source[0]) == 1320)
        site.answer(arrival, bytes(1401))
        assert client.recv(2000) == bytes(1401)
