"""Handshakes carry no connection ID: the scheduler picks once, and the flow is remembered until it is over."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import ip_address

from tests.conformance.evidence import only_on
from tests.conformance.site import COAPS, QUIET, Site, cid, flight5, hello

from pointsman.model import Endpoint
from pointsman.plan import jhash, maglev
from pointsman.wire import dtls

SEED = 0x5EED1234


def predicted(source: tuple[str, int], names: list[str]) -> str:
    """The node that Maglev has for a client, by the model alone."""
    client = Endpoint(ip_address(source[0]), source[1])
    size = maglev.table_size(len(names))
    slot = jhash.client_slot(client.address, client.port, size, SEED)
    return names[maglev.build([(name, 1) for name in names], size, SEED)[slot]]


def test_handshakes_spread_over_the_nodes_as_the_model_predicts(site: Site) -> None:
    site.serve(nodes=3)
    names = ["n1", "n2", "n3"]
    site.nodes(names)
    clients = [site.client() for _ in range(60)]
    reached = [(site.ask(client, hello()), client.getsockname()) for client in clients]
    assert [arrival.node for arrival, _ in reached] == [predicted(own[:2], names) for _, own in reached]
    assert min(Counter(arrival.node for arrival, _ in reached).values()) >= 8


def test_all_flights_of_a_handshake_reach_one_node(site: Site) -> None:
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    for _ in range(6):
        client = site.client()
        flights = [hello(), hello(message_seq=1, cookie=b"\1" * 16), flight5()]
        assert len({site.ask(client, flight).node for flight in flights}) == 1


def test_handshake_under_way_is_finished_on_a_draining_node(site: Site) -> None:
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    node = site.ask(client, hello()).node
    site.order("drain", node)
    assert site.ask(client, hello(message_seq=1)).node == node
    assert site.ask(client, flight5()).node == node
    assert site.ask(client, cid(int(node[1:]))).node == node


def test_control_without_its_memory_the_handshake_moves(site: Site) -> None:
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    node = site.ask(client, hello()).node
    site.order("drain", node)
    site.forget_flows()
    assert site.ask(client, hello(message_seq=1)).node != node


def test_handshake_under_way_is_finished_while_nodes_are_added_and_removed(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(["n1", "n2", "n3"])
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, hello()).node for client in clients]
    site.serve(nodes=["n1", "n2", "n3"])
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == nodes
    site.serve(nodes=["n2", "n3"])
    assert [site.ask(client, flight5()).node for client in clients] == nodes
    assert site.status()["leaving"] == [{"service": "s", "node": "n1"}]
    strangers = [site.ask(site.client(), hello()).node for _ in range(12)]
    assert "n1" not in strangers


def test_removed_node_is_let_go_when_the_handshake_timeout_is_over(site: Site) -> None:
    site.serve(nodes=["n1", "n2"], settings='handshake_timeout = "2s"')
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, hello()).node for client in clients]
    site.serve(nodes=["n2"], settings='handshake_timeout = "2s"')
    time.sleep(3.5)
    assert {site.ask(client, hello(message_seq=1)).node for client in clients} == {"n2"}
    assert "n1" in nodes
    time.sleep(3)
    # Its replies are nobody's any more: they would leave under its own address, so they must not leave as the VIP.
    site.node("n1").sendto(b"late", clients[0].getsockname()[:2])
    clients[0].settimeout(QUIET)
    assert clients[0].recvfrom(100)[1][0] == site.node_address("n1")


def test_removed_node_keeps_no_steady_sender(site: Site) -> None:
    """Nor do its answers leave under its own address while it is let go."""
    site.serve(nodes=["n1", "n2"], settings='handshake_timeout = "4s"')
    site.nodes(["n1", "n2"])
    data = dtls.application_data(epoch=1, seq=1, body=bytes(20))
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, data).node for client in clients]
    assert set(nodes) == {"n1", "n2"}
    site.serve(nodes=["n2"], settings='handshake_timeout = "4s"')
    end = time.monotonic() + 6
    reached: list[str] = []
    while time.monotonic() < end:
        reached = [site.ask(client, data).node for client in clients]
    assert set(reached) == {"n2"}


def test_renamed_node_is_another_one_and_handshakes_on_it_are_finished(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(8)]
    nodes = [site.ask(client, hello()).node for client in clients]
    site.apply(site.config(nodes=["n1", "n2"]).replace('name = "n1"', 'name = "node-1"'))
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == nodes
    assert site.ask(clients[0], cid(1)).node == "n1"


def test_node_removed_from_one_service_keeps_no_flow_of_it_for_being_in_another(site: Site) -> None:
    other = "\n".join(
        [
            "[[service]]",
            'name = "other"',
            'protocol = "udp"',
            f'listen = ["{site.at(site.vip, 5683)}"]',
            "[[service.node]]",
            'name = "n1"',
            f'address = "{site.node_address("n1")}"',
        ]
    )
    second = f'\n[[service.node]]\nname = "n2"\naddress = "{site.node_address("n2")}"'
    site.serve(more=other + second)
    site.nodes(["n1", "n2"], 5683)
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, b"x", port=5683).node for client in clients]
    assert set(nodes) == {"n1", "n2"}
    site.serve(more=other)
    assert {site.ask(client, b"x", port=5683).node for client in clients} == {"n1"}


def test_first_client_hello_follows_its_flow_only_to_a_node_that_is_up(site: Site) -> None:
    """A NAT port that is used again and again does not feed a draining node for ever."""
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    node = site.ask(client, hello()).node
    assert site.ask(client, hello()).node == node
    site.order("drain", node)
    other = site.ask(client, hello()).node
    assert other != node
    assert site.ask(client, hello(message_seq=1)).node == other


def test_retransmissions_up_to_the_handshake_timeout_keep_the_flow(site: Site) -> None:
    site.serve(nodes=3, settings='handshake_timeout = "6s"')
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    node = site.ask(client, hello()).node
    site.order("drain", node)
    for pause in (1, 2, 4):  # as DTLS backs off (RFC 6347 section 4.2.4.1)
        time.sleep(pause)
        assert site.ask(client, hello(message_seq=1)).node == node
    time.sleep(7.5)
    assert site.ask(client, hello(message_seq=1)).node != node


def test_session_without_cid_is_remembered_for_the_flow_timeout(site: Site) -> None:
    site.serve(nodes=3, settings='handshake_timeout = "2s"\nflow_timeout = "20s"')
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    node = site.ask(client, hello()).node
    assert site.ask(client, dtls.application_data(epoch=1, seq=1, body=bytes(20))).node == node
    site.order("drain", node)
    time.sleep(3)
    assert site.ask(client, dtls.application_data(epoch=1, seq=2, body=bytes(20))).node == node


def test_one_client_socket_on_two_listeners_is_two_flows(site: Site) -> None:
    second = COAPS + 10000
    listen = [site.at(site.vip, COAPS), site.at(site.vip, second)]
    site.serve(nodes=3, listen=listen)
    for port in (COAPS, second):
        site.nodes(["n1", "n2", "n3"], port)
    client = site.client()
    first = site.ask(client, hello())
    assert first.port == COAPS
    site.order("drain", first.node)
    other = site.ask(client, hello(), port=second)
    assert (other.port, other.node == first.node) == (second, False)
    assert site.ask(client, hello(message_seq=1)).node == first.node
    assert site.ask(client, hello(message_seq=1), port=second).node == other.node


@only_on("nftables", because="xdp's table lets unanswered flows go for new ones: test_memory_xdp.py")
def test_full_flow_table_stops_no_packet_and_is_counted(site: Site) -> None:
    site.serve(settings="flow_table_size = 4")
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(24)]
    first = [site.ask(client, hello()).node for client in clients]
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == first
    assert site.status()["counters"]["flow_table_full"]["packets"] >= 8
    assert site.counted("balanced") + site.counted("flow") == 48
