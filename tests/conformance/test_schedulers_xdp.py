"""Schedulers, affinity, backup nodes and lingering ones, with real connections and datagrams on XDP."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from tests.conformance.evidence import only_on
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import Connection, connections, servers

pytestmark = only_on("xdp", because="TCP, and how this plane schedules")

NODES = ("n1", "n2", "n3")
ROUND_ROBIN = 'scheduler = "round-robin"'
LEAST = 'scheduler = "least-connections"'


def weighted(text: str, weights: dict[str, str]) -> str:
    """Give nodes lines of their own."""
    for node, line in weights.items():
        text = text.replace(f'name = "{node}"\n', f'name = "{node}"\n{line}\n')
    return text


def test_round_robin_shares_connections_exactly(site: Site) -> None:
    text = site.config(nodes=3, protocol="tcp", settings=ROUND_ROBIN)
    site.apply(weighted(text, {"n1": "weight = 1", "n2": "weight = 2", "n3": "weight = 3"}))
    with servers(site, *NODES), connections(site, 30) as found:
        assert Counter(each.node for each in found) == {"n1": 5, "n2": 10, "n3": 15}
        assert all(each.echoes() for each in found)


def test_random_reaches_every_node_and_connections_stay(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings='scheduler = "random"')
    with servers(site, *NODES), connections(site, 48) as found:
        assert {each.node for each in found} == set(NODES)
        assert all(each.echoes() for _ in range(3) for each in found)


def test_affinity_has_one_clients_connections_on_one_node(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings=f'{ROUND_ROBIN}\naffinity = "client-address"')
    with servers(site, *NODES), connections(site, 12) as found:
        assert len({each.node for each in found}) == 1
        assert all(each.echoes() for each in found)
        drained = found[0].node
        site.order("drain", drained)
        with connections(site, 6) as late:
            assert len({each.node for each in late}) == 1
            assert late[0].node != drained
            assert all(each.echoes() for each in [*found, *late])


def test_control_without_affinity_they_are_on_several(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings=ROUND_ROBIN)
    with servers(site, *NODES), connections(site, 12) as found:
        assert len({each.node for each in found}) == 3


def test_affinity_ends_when_the_client_is_silent(site: Site) -> None:
    settings = f'{ROUND_ROBIN}\naffinity = {{ timeout = "1s" }}\nflow_timeout = "1s"'
    site.serve(nodes=3, protocol="udp", settings=settings)
    site.nodes(NODES, COAP)

    def node() -> str:
        return site.ask(site.client(), b"hello", port=COAP).node

    first = node()
    for _ in range(6):  # longer than its timeout, but never silent as long
        time.sleep(0.4)
        assert node() == first
    found = {first}
    for _ in range(2):
        time.sleep(2)
        found.add(node())
    assert found == set(NODES)


def test_backup_node_takes_connections_only_where_no_other_does(site: Site) -> None:
    text = site.config(nodes=3, protocol="tcp")
    site.apply(weighted(text, {"n3": "backup = true"}))
    with servers(site, *NODES), connections(site, 24) as found:
        assert {each.node for each in found} == {"n1", "n2"}
        site.order("drain", "n1")
        site.order("drain", "n2")
        with connections(site, 4) as late:
            assert {each.node for each in late} == {"n3"}
            site.order("enable", "n1")
            with connections(site, 4) as last:
                assert {each.node for each in last} == {"n1"}
                assert all(each.echoes() for each in [*found, *late, *last])


def test_lingering_node_keeps_its_connections_and_gets_no_new_ones(site: Site) -> None:
    settings = f'{ROUND_ROBIN}\nlinger = "1h"'
    site.serve(nodes=3, protocol="tcp", settings=settings)
    with servers(site, *NODES), connections(site, 9) as found:
        site.serve(nodes=["n1", "n2"], protocol="tcp", settings=settings)
        assert "n3" in {each.node for each in found}
        assert all(each.echoes() for _ in range(2) for each in found)
        with connections(site, 8) as late:
            assert {each.node for each in late} == {"n1", "n2"}


def test_lingering_node_keeps_a_steady_connection_beyond_the_flow_timeout(site: Site) -> None:
    settings = f'{ROUND_ROBIN}\nlinger = "1h"\nflow_timeout = "3s"'
    site.serve(nodes=2, protocol="tcp", settings=settings)
    with servers(site, *NODES), connections(site, 2) as found:
        site.serve(nodes=["n1"], protocol="tcp", settings=settings)
        for _ in range(5):
            assert all(each.echoes() for each in found)
            time.sleep(1)


def test_linger_ends(site: Site) -> None:
    settings = f'{ROUND_ROBIN}\nlinger = "2s"'
    site.serve(nodes=2, protocol="tcp", settings=settings)
    with servers(site, *NODES), connections(site, 2) as found:
        gone = next(each for each in found if each.node == "n2")
        site.serve(nodes=["n1"], protocol="tcp", settings=settings)
        assert gone.echoes()
        time.sleep(2.2)
        with pytest.raises(ConnectionResetError):
            gone.echoes()


def test_without_linger_a_removed_nodes_connections_are_reset(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings=ROUND_ROBIN)
    with servers(site, *NODES), connections(site, 9) as found:
        site.serve(nodes=["n1", "n2"], protocol="tcp", settings=ROUND_ROBIN)
        for each in found:
            if each.node == "n3":
                with pytest.raises(ConnectionResetError):
                    each.echoes()
            else:
                assert each.echoes()


def test_lingering_node_of_a_udp_service_is_followed_too(site: Site) -> None:
    settings = f'{ROUND_ROBIN}\nlinger = "1h"'
    site.serve(nodes=2, protocol="udp", settings=settings)
    site.nodes(NODES, COAP)
    clients = [site.client() for _ in range(4)]
    first = [site.ask(each, b"hello", port=COAP).node for each in clients]
    assert set(first) == {"n1", "n2"}
    site.serve(nodes=["n1"], protocol="udp", settings=settings)
    assert [site.ask(each, b"again", port=COAP).node for each in clients] == first
    assert site.ask(site.client(), b"new", port=COAP).node == "n1"


def test_connections_stay_while_a_port_range_serves_them(site: Site) -> None:
    listen = [site.at(site.vip, 8000) + "-8003"]
    site.serve(nodes=2, protocol="udp", listen=listen, settings=ROUND_ROBIN)
    for port in range(8000, 8004):
        site.nodes(("n1", "n2"), port)
    client = site.client()
    for port in range(8000, 8004):
        arrival = site.ask(client, b"hello", port=port)
        assert arrival.port == port
        assert site.ask(client, b"again", port=port).node == arrival.node


def test_least_connections_evens_out_and_knows_what_has_ended(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings=LEAST)
    with servers(site, *NODES), connections(site, 20) as found:
        more = [Connection(site) for _ in range(10)]
        reached = Counter(each.node for each in [*found, *more])
        assert reached == dict.fromkeys(NODES, 10)
        ended = Counter(each.node for each in more)
        for each in more:
            each.reset()
        with connections(site, 10) as late:
            assert Counter(each.node for each in late) == ended
            assert all(each.echoes() for each in [*late, *found])


def test_least_connections_fills_up_nodes_that_come_new(site: Site) -> None:
    site.serve(nodes=1, protocol="tcp")
    with servers(site, *NODES), connections(site, 12) as found:
        assert {each.node for each in found} == {"n1"}
        site.serve(nodes=3, protocol="tcp", settings=LEAST)  # counts what is there when it begins to
        with connections(site, 24) as late:
            assert Counter(each.node for each in late) == {"n2": 12, "n3": 12}
            assert all(each.echoes() for each in [*found, *late])
