"""A node that starts slowly takes a share of its weight: of new flows, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from tests.conformance.evidence import pins
from tests.conformance.proposals import put, share, states
from tests.conformance.site import COAP, COAPS, Site, cid, hello
from tests.conformance.tcp import connections, servers
from tests.conformance.test_schedulers import NODES, PING, serve

from pointsman.config import parse
from pointsman.model import Endpoint, NodeState
from pointsman.plan.explain import explain

MANY = 600
SIGMAS = 5
"""How far from its mean a binomial count may be: one case in a million is further."""


def handshakes(site: Site, count: int, first: int) -> dict[int, str]:
    """Begin handshakes from so many ports, from ``first`` on, and see which node each comes to."""
    client, reached = site.lab.address("client", site.family), {}
    for start in range(first, first + count, 100):
        ports = range(start, min(start + 100, first + count))
        for port in ports:
            with site.lab.socket("client", site.inet, 2) as handle:
                handle.bind((client, port))
                handle.sendto(hello(), (site.vip, COAPS))
        for arrival in site.arrivals(len(ports)):
            reached[arrival.source[1]] = arrival.node
    assert reached.keys() == set(range(first, first + count)), "each reaches one node"
    return reached


def foretold(site: Site, text: str, ports: Sequence[int]) -> dict[int, str | None]:
    """The same by the model alone, from the states that are in force."""
    gateway, own = parse(text, "g").gateway, states(site)
    address, vip = ip_address(site.lab.address("client", site.family)), Endpoint(ip_address(site.vip), COAPS)
    return {port: explain(gateway, own, Endpoint(address, port), vip, hello()).node for port in ports}


def about(count: int, percent: float) -> range:
    """Counts that so many draws may give at that probability."""
    part = percent / 100
    mean, deviation = count * part, (count * part * (1 - part)) ** 0.5
    return range(int(mean - SIGMAS * deviation), int(mean + SIGMAS * deviation) + 2)


def warmed(site: Site) -> None:
    """Neighbours are known before anything is counted."""
    site.nodes(NODES)
    client = site.client()
    for number in (1, 2, 3):
        site.ask(client, cid(number))


def test_node_with_a_tenth_of_its_share_gets_a_tenth_of_new_handshakes(site: Site) -> None:
    text = site.config(nodes=3)
    site.apply(text)
    warmed(site)
    full = Counter(handshakes(site, MANY, 20_000).values())
    assert full["n1"] in about(MANY, 100 / 3), "the control: with all of its share it gets its third"
    share(site, "n1", 10)
    reached = handshakes(site, MANY, 30_000)
    slow = Counter(reached.values())
    assert slow["n1"] in about(MANY, 10 / 2.1)
    assert full["n1"] not in about(MANY, 10 / 2.1)
    assert abs(slow["n2"] - slow["n3"]) < SIGMAS * MANY**0.5, "the others go on in equal parts"
    ports = list(reached)[:200]
    assert foretold(site, text, ports) == {port: reached[port] for port in ports}


def test_share_grows_step_by_step_and_only_new_handshakes_follow_it(site: Site) -> None:
    text = site.config(nodes=3)
    site.apply(text)
    warmed(site)
    old = [site.client() for _ in range(40)]
    nodes = [site.ask(client, hello()).node for client in old]
    assert "n1" in nodes
    seen = []
    for step, percent in enumerate(range(10, 101, 10)):
        share(site, "n1", percent)
        assert site.ask(old[0], cid(1)).node == "n1"
        assert [site.ask(client, hello(message_seq=1)).node for client in old] == nodes
        assert [site.ask(client, hello()).node for client in old] == nodes, (
            "a retransmission goes by its flow"
        )
        first = 20_000 + 1000 * step
        reached = handshakes(site, 60, first)
        assert reached == foretold(site, text, list(reached))
        seen.append(foretold(site, text, range(first, first + 300)))
    counts = [list(each.values()).count("n1") for each in seen]
    for percent, count in zip(range(10, 101, 10), counts, strict=True):
        assert count in about(300, 100 * percent / (200 + percent)), counts
    assert (site.counted("cid_node_down"), site.counted("no_node"), site.counted("cid_unknown")) == (0, 0, 0)


def test_a_step_moves_no_new_client_from_the_node_that_starts(site: Site) -> None:
    site.serve(nodes=3)
    warmed(site)
    share(site, "n1", 10)
    before = handshakes(site, 200, 20_000)
    share(site, "n1", 60)
    site.forget_flows()
    after = handshakes(site, 200, 20_000)
    moved = {port for port, node in before.items() if node != after[port]}
    assert moved
    assert {before[port] for port in moved} <= {"n2", "n3"}
    assert sum(after[port] != "n1" for port in moved) <= 6, "hardly anybody moves between the others"


def test_affinity_and_flows_stay_with_the_node_that_starts(site: Site) -> None:
    site.serve(nodes=3, protocol="udp", settings='affinity = "client-address"')
    site.nodes(NODES, COAP)
    client = site.client()
    node = site.ask(client, PING, port=COAP).node
    share(site, node, 10)
    assert site.ask(client, PING, port=COAP).node == node
    assert {site.ask(site.client(), PING, port=COAP).node for _ in range(12)} == {node}


@pytest.mark.asks("scheduler", "round-robin")
def test_round_robin_gives_the_share_exactly(site: Site) -> None:
    serve(site, "round-robin")
    site.nodes(NODES, COAP)
    share(site, "n1", 10)
    order = [site.ask(site.client(), PING, port=COAP).node for _ in range(42)]
    for start in (0, 21):
        assert Counter(order[start : start + 21]) == {"n1": 1, "n2": 10, "n3": 10}
    share(site, "n1", 100)
    order = [site.ask(site.client(), PING, port=COAP).node for _ in range(6)]
    assert Counter(order) == {"n1": 2, "n2": 2, "n3": 2}


@pytest.mark.asks("scheduler", "round-robin")
def test_turns_that_want_more_room_than_there_is_keep_the_flows(site: Site) -> None:
    """18,267 turns in place of 269: on xdp that takes other maps."""
    serve(site, "round-robin", n1=97, n2=89, n3=83)
    site.nodes(NODES, COAP)
    clients = [site.client() for _ in range(12)]
    nodes = [site.ask(client, PING, port=COAP).node for client in clients]
    before = pins(site.lab)
    share(site, "n1", 11)
    assert (pins(site.lab) != before) == (site.plane == "xdp")
    assert [site.ask(client, PING, port=COAP).node for client in clients] == nodes
    order = [site.ask(site.client(), PING, port=COAP).node for _ in range(36)]
    assert Counter(order)["n1"] in (1, 2, 3)


@pytest.mark.asks("scheduler", "random")
def test_random_gives_about_the_share(site: Site) -> None:
    serve(site, "random")
    site.nodes(NODES, COAP)
    share(site, "n1", 10)
    order = [site.ask(site.client(), PING, port=COAP).node for _ in range(150)]
    assert order.count("n1") in about(150, 10 / 2.1)
    assert order.count("n1") not in about(150, 100 / 3)


@pytest.mark.asks("scheduler", "least-connections")
def test_least_connections_fills_a_node_to_its_share_of_the_others(site: Site) -> None:
    serve(site, "least-connections", protocol="tcp")
    with servers(site, *NODES):
        share(site, "n1", 10)
        with connections(site, 42) as found:
            reached = Counter(each.node for each in found)
            assert reached["n1"] in (2, 3)
            assert all(each.echoes() for each in found)
            share(site, "n1", 100)
            with connections(site, 12) as late:
                assert {each.node for each in late} == {"n1"}, "with all of its share it is filled up"


def test_node_that_is_the_only_one_takes_all_whatever_its_share(site: Site) -> None:
    site.serve(nodes=2)
    site.nodes(["n1", "n2"])
    share(site, "n1", 10)
    site.order("disable", "n2")
    assert {site.ask(site.client(), hello()).node for _ in range(12)} == {"n1"}


def test_shares_outlive_apply_and_orders(site: Site) -> None:
    site.serve(nodes=3)
    share(site, "n1", 10)
    site.order("drain", "n2")
    site.serve(nodes=3, settings='cid_unknown = "balance"')
    assert states(site).shares == {("s", "n1"): 10}
    site.serve(nodes=["n2", "n3"])
    assert states(site).shares == {}, "but not the node"


def test_service_that_is_disabled_takes_nothing_and_another_is_as_before(site: Site) -> None:
    """All of its nodes are: records are cid_node_down, what is new finds no node."""
    port = COAP + 1000
    other = "\n".join(
        [
            "[[service]]",
            'name = "other"',
            'protocol = "udp"',
            f'listen = ["{site.at(site.vip, port)}"]',
            *("[[service.node]]", 'name = "n1"', f'address = "{site.node_address("n1")}"'),
        ]
    )
    site.serve(nodes=2, more=other)
    site.nodes(["n1", "n2"])
    site.node("n1", port)
    client, knows = site.client(), site.client()
    site.ask(knows, hello())
    every = dict.fromkeys((("s", "n1"), ("s", "n2")), NodeState.DISABLED)
    put(site, lambda states: type(states)(every))
    site.dropped(client, cid(1))
    site.dropped(client, hello())
    site.dropped(knows, hello(message_seq=1))
    assert (site.counted("cid_node_down"), site.counted("no_node")) == (1, 2)
    assert site.ask(client, PING, port=port).node == "n1"
    put(site, lambda states: type(states)())
    assert site.ask(client, cid(1)).node == "n1"
    assert site.ask(client, hello()).node in ("n1", "n2")
