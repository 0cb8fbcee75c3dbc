"""Plain UDP services go by remembered flows."""

from __future__ import annotations

import time

from tests.conformance.site import COAP, Site

PING = bytes.fromhex("40000001")


def test_flow_stays_on_its_node(site: Site) -> None:
    site.serve(nodes=3, protocol="udp")
    site.nodes(["n1", "n2", "n3"], COAP)
    clients = [site.client() for _ in range(48)]
    first = [site.ask(client, PING, port=COAP).node for client in clients]
    assert set(first) == {"n1", "n2", "n3"}
    assert [site.ask(client, PING, port=COAP).node for client in clients] == first
    assert (site.counted("balanced"), site.counted("flow"), site.counted("reply")) == (48, 48, 96)


def test_a_new_node_moves_no_remembered_flow(site: Site) -> None:
    site.serve(nodes=2, protocol="udp")
    site.nodes(["n1", "n2", "n3"], COAP)
    clients = [site.client() for _ in range(20)]
    first = [site.ask(client, PING, port=COAP).node for client in clients]
    site.serve(nodes=3, protocol="udp")
    assert [site.ask(client, PING, port=COAP).node for client in clients] == first
    assert "n3" in {site.ask(site.client(), PING, port=COAP).node for _ in range(48)}


def test_steady_sender_leaves_a_disabled_node_at_once(site: Site) -> None:
    site.serve(protocol="udp")
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    node = site.ask(client, PING, port=COAP).node
    site.order("disable", node)
    assert site.ask(client, PING, port=COAP).node != node


def test_steady_sender_leaves_a_draining_node_within_the_flow_timeout(site: Site) -> None:
    """Its flow is followed, but no longer refreshed."""
    site.serve(protocol="udp", settings='flow_timeout = "3s"')
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    node = site.ask(client, PING, port=COAP).node
    site.order("drain", node)
    assert site.ask(client, PING, port=COAP).node == node
    seen: list[str] = []
    end = time.monotonic() + 6
    while time.monotonic() < end and seen[-1:] != [{"n1": "n2", "n2": "n1"}[node]]:
        seen.append(site.ask(client, PING, port=COAP).node)
        time.sleep(0.2)
    assert seen[-1] != node
    assert len(seen) >= 8, "it left long before its flow timed out"


def test_control_steady_sender_stays_on_a_node_that_is_up(site: Site) -> None:
    site.serve(protocol="udp", settings='flow_timeout = "1s"')
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    node = site.ask(client, PING, port=COAP).node
    for _ in range(15):
        assert site.ask(client, PING, port=COAP).node == node
        time.sleep(0.2)
    assert site.counted("balanced") == 1


def test_idle_flow_is_forgotten(site: Site) -> None:
    site.serve(protocol="udp", settings='flow_timeout = "1s"')
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    site.ask(client, PING, port=COAP)
    time.sleep(2.2)
    site.ask(client, PING, port=COAP)
    assert site.counted("balanced") == 2


def test_what_looks_like_a_cid_record_goes_by_flow(site: Site) -> None:
    site.serve(protocol="udp")
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    first = site.ask(client, PING, port=COAP).node
    for node_id in range(4):
        record = bytes.fromhex("19fefd0001000000000001") + bytes([node_id]) + bytes(20)
        assert site.ask(client, record, port=COAP).node == first
