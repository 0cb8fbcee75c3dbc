"""Another machine takes over a node: here n3, which no file names, takes over n1."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conformance.evidence import refused, standing
from tests.conformance.proposals import replace_node, states
from tests.conformance.site import COAP, QUIET, Site, cid, flight5, hello

from pointsman.config import ConfigError
from pointsman.model import NodeState

MACHINES = ("n1", "n2", "n3")
PING = bytes.fromhex("40000001")


@contextmanager
def steady(site: Site, node_id: int) -> Iterator[list[bytes]]:
    """Numbered records that name a node, one after the other; those sent are in the list afterwards."""
    sent: list[bytes] = []
    client, ended = site.client(), threading.Event()

    def send() -> None:
        while not ended.is_set():
            record = cid(node_id, seq=len(sent) + 1, body=len(sent).to_bytes(4, "big") + bytes(20))
            client.sendto(record, (site.vip, 5684))
            sent.append(record)
            time.sleep(0.0005)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()


def at_once(site: Site) -> None:
    """Replace n1 while records for it come in, and see where each arrived."""
    with steady(site, 1) as sent:
        time.sleep(0.3)
        replace_node(site, "n1", site.node_address("n3"))
        time.sleep(0.3)
    arrived: dict[str, list[bytes]] = {name: [] for name in MACHINES}
    for arrival in site.arrivals(len(sent)):
        arrived[arrival.node].append(arrival.payload)
    assert arrived["n2"] == []
    assert arrived["n1"]
    assert arrived["n3"]
    assert arrived["n1"] + arrived["n3"] == sent, (
        "none is lost, and none reaches the old machine after the new"
    )


def test_records_go_to_the_new_machine_in_one_step_and_none_is_lost(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    for name in MACHINES:  # neighbours are known before
        site.lab.run("gw", ["ping", "-c", "1", "-W", "2", site.node_address(name)])
    at_once(site)
    assert (site.counted("cid_unknown"), site.counted("cid_node_down")) == (0, 0)


def test_control_in_two_steps_records_are_dropped_in_between(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    with steady(site, 1) as sent:
        time.sleep(0.3)
        site.serve(nodes=["n2"])
        site.apply(site.config(nodes=["n1", "n2"]).replace(site.node_address("n1"), site.node_address("n3")))
        time.sleep(0.3)
    assert len(site.arrivals(len(sent), wait=1)) < len(sent)
    assert site.counted("cid_unknown") > 0


def test_handshakes_under_way_are_finished_on_the_old_machine(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, hello()).node for client in clients]
    assert set(nodes) == {"n1", "n2"}
    replace_node(site, "n1", site.node_address("n3"))
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == nodes
    assert [site.ask(client, flight5()).node for client in clients] == nodes
    assert site.status()["leaving"] == [{"service": "s", "node": "n1"}]
    assert site.ask(clients[0], cid(1)).node == "n3"
    renewed = {"n1": "n3", "n2": "n2"}
    assert [site.ask(client, hello()).node for client in clients] == [renewed[node] for node in nodes], (
        "a new handshake of theirs goes where the table says, which has the node in the same slots"
    )


def test_old_machine_is_let_go_when_the_handshake_timeout_is_over(site: Site) -> None:
    settings = 'handshake_timeout = "2s"'
    site.serve(nodes=["n1", "n2"], settings=settings)
    site.nodes(MACHINES)
    clients = [site.client() for _ in range(24)]
    nodes = [site.ask(client, hello()).node for client in clients]
    assert "n1" in nodes
    replace_node(site, "n1", site.node_address("n3"))
    time.sleep(3.5)
    assert {site.ask(client, hello(message_seq=1)).node for client in clients} == {"n2", "n3"}
    time.sleep(3)
    site.node("n1").sendto(b"late", clients[0].getsockname()[:2])
    clients[0].settimeout(QUIET)
    assert clients[0].recvfrom(100)[1][0] == site.node_address("n1"), "its answers are nobody's any more"


def test_flows_of_a_udp_service_follow_the_old_machine_for_the_linger_alone(site: Site) -> None:
    for linger, stays in (("1m", True), ("0", False)):
        site.serve(nodes=["n1", "n2"], protocol="udp", settings=f'linger = "{linger}"'.replace('"0"', "0"))
        site.nodes(MACHINES, COAP)
        clients = [site.client() for _ in range(12)]
        nodes = [site.ask(client, PING, port=COAP).node for client in clients]
        replace_node(site, "n1", site.node_address("n3"))
        after = [site.ask(client, PING, port=COAP).node for client in clients]
        assert after == (nodes if stays else [{"n1": "n3"}.get(node, node) for node in nodes])
        site.pointsman("down")


def test_state_and_order_are_those_of_the_node_whichever_machine_it_is(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    site.order("disable", "n1")
    replace_node(site, "n1", site.node_address("n3"))
    assert states(site).of("s", "n1") is NodeState.DISABLED
    site.dropped(site.client(), cid(1))
    site.order("enable", "n1")
    assert site.ask(site.client(), cid(1)).node == "n3"


def test_replacement_outlives_orders_and_applies_until_the_file_names_other_addresses(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    replace_node(site, "n1", site.node_address("n3"))
    client = site.client()
    site.order("drain", "n2")
    site.serve(nodes=["n1", "n2"])
    site.serve(nodes=["n1", "n2"], settings='cid_unknown = "balance"')
    assert site.ask(client, cid(1)).node == "n3"
    written = site.config(nodes=["n1", "n2"]).replace(site.node_address("n1"), site.node_address("n3"))
    site.apply(written)
    assert site.ask(client, cid(1)).node == "n3"
    site.serve(nodes=["n1", "n2"])
    assert site.ask(client, cid(1)).node == "n1", "the file has the word again"


def test_machine_that_is_another_node_already_is_refused_and_nothing_changes(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    before = standing(site)
    with pytest.raises(
        ConfigError, match="is that of node n2, as it has been replaced; an address of its own"
    ):
        replace_node(site, "n1", site.node_address("n2"))
    assert standing(site) == before
    assert site.ask(site.client(), cid(1)).node == "n1"


def test_file_that_gives_the_new_machine_to_another_node_is_refused_in_one_line(site: Site) -> None:
    site.serve(nodes=["n1", "n2"])
    site.nodes(MACHINES)
    replace_node(site, "n1", site.node_address("n3"))
    path = site.file(site.config(nodes=["n1", "n2", "n3"]))
    line = refused(site.pointsman("apply", str(path), check=False), 2)
    assert "service s, node n1: address " in line
    assert "is that of node n3, as it has been replaced; an address of its own" in line
    assert site.ask(site.client(), cid(1)).node == "n3"
    assert [node["name"] for node in site.status()["services"][0]["nodes"]] == ["n1", "n2"]
