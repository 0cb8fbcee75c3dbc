"""Which node a new flow gets, by scheduler and weight; what is remembered goes on as ever."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")
NODES = ("n1", "n2", "n3")


def weighted(text: str, **weights: int) -> str:
    for name, weight in weights.items():
        text = text.replace(f'name = "{name}"', f'name = "{name}"\nweight = {weight}')
    return text


def serve(site: Site, scheduler: str, *, protocol: str = "udp", **weights: int) -> None:
    settings = f'scheduler = "{scheduler}"'
    site.apply(weighted(site.config(nodes=3, protocol=protocol, settings=settings), **weights))


def reached(site: Site, count: int) -> list[str]:
    """The nodes that so many new senders come to, one after the other."""
    return [site.ask(site.client(), PING, port=COAP).node for _ in range(count)]


@pytest.mark.asks("scheduler", "round-robin")
def test_round_robin_gives_exact_proportions_in_every_round(site: Site) -> None:
    serve(site, "round-robin", n1=3, n2=2)
    site.nodes(NODES, COAP)
    order = reached(site, 18)
    for start in range(0, 18, 6):
        assert Counter(order[start : start + 6]) == {"n1": 3, "n2": 2, "n3": 1}
    assert all(order[i : i + 3] != ["n1"] * 3 for i in range(16)), "its turns come spread over the round"
    site.order("drain", "n1")
    assert Counter(reached(site, 6)) == {"n2": 4, "n3": 2}


@pytest.mark.asks("scheduler", "round-robin")
def test_connections_by_round_robin_stay_on_their_nodes(site: Site) -> None:
    serve(site, "round-robin", protocol="tcp")
    with servers(site, *NODES), connections(site, 12) as found:
        assert Counter(each.node for each in found) == dict.fromkeys(NODES, 4)
        site.order("drain", "n1")
        assert all(each.echoes() for each in found)
        with connections(site, 6) as late:
            assert Counter(each.node for each in late) == {"n2": 3, "n3": 3}
    assert site.counted("balanced") == 18


@pytest.mark.asks("scheduler", "random")
def test_random_gives_about_the_weights_share_and_stays(site: Site) -> None:
    serve(site, "random", n1=4, n3=0)
    site.nodes(NODES, COAP)
    clients = [site.client() for _ in range(200)]
    nodes = [site.ask(client, PING, port=COAP).node for client in clients]
    assert 125 <= nodes.count("n1") <= 190
    assert "n3" not in nodes
    assert [site.ask(client, PING, port=COAP).node for client in clients[:20]] == nodes[:20]


@pytest.mark.asks("scheduler", "random")
@pytest.mark.parametrize("scheduler", ["random", "maglev"])
def test_a_forgotten_client_is_drawn_anew_by_random_alone(site: Site, scheduler: str) -> None:
    serve(site, scheduler)
    site.nodes(NODES, COAP)
    client, nodes = site.client(), set()
    for _ in range(10):
        nodes.add(site.ask(client, PING, port=COAP).node)
        site.forget_flows()
    assert (len(nodes) > 1) == (scheduler == "random")
