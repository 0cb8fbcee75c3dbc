"""New flows of one client network go to one node, as long as that takes new flows."""

from __future__ import annotations

import time

import pytest
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")
NODES = ("n1", "n2", "n3")

pytestmark = pytest.mark.asks("affinity")

PREFIX = "affinity = { ip4 = 24, ip6 = 112 }"


def in_network(site: Site, network: int, host: int) -> str:
    return f"198.19.{network}.{host}" if site.family == 4 else f"2001:db8:19::{network:x}:{host:x}"


def reached(site: Site, network: int, hosts: range) -> list[str]:
    clients = [site.client(in_network(site, network, host)) for host in hosts]
    return [site.ask(client, PING, port=COAP).node for client in clients]


def test_clients_of_one_network_go_to_one_node_and_other_networks_elsewhere(site: Site) -> None:
    site.serve(nodes=3, protocol="udp", settings=PREFIX)
    site.nodes(NODES, COAP)
    of_network = [set(reached(site, network, range(1, 4))) for network in range(1, 41)]
    assert all(len(nodes) == 1 for nodes in of_network)
    assert set().union(*of_network) == set(NODES)
    assert site.counted("balanced") == 120


def test_control_without_affinity_they_are_spread(site: Site) -> None:
    site.serve(nodes=3, protocol="udp")
    site.nodes(NODES, COAP)
    assert len(set(reached(site, 1, range(1, 21)))) > 1


def test_affinity_leaves_a_node_that_takes_no_new_flows_and_does_not_come_back(site: Site) -> None:
    site.serve(nodes=3, protocol="udp", settings=PREFIX)
    site.nodes(NODES, COAP)
    (first,) = set(reached(site, 1, range(1, 5)))
    site.order("drain", first)
    (second,) = set(reached(site, 1, range(5, 9)))
    assert second != first
    site.order("enable", first)
    assert set(reached(site, 1, range(9, 13))) == {second}
    site.order("disable", second)
    assert second not in set(reached(site, 1, range(13, 17)))


@pytest.mark.asks("scheduler", "round-robin")
def test_connections_of_one_client_stay_together_under_round_robin(site: Site) -> None:
    settings = 'scheduler = "round-robin"\naffinity = "client-address"'
    site.serve(nodes=3, protocol="tcp", settings=settings)
    with servers(site, *NODES), connections(site, 9) as found:
        assert len({each.node for each in found}) == 1


def test_listeners_of_a_service_share_its_affinity(site: Site) -> None:
    listen = [site.at(site.vip, f"{COAP}-{COAP + 3}")]
    site.serve(nodes=3, protocol="udp", listen=listen, settings=PREFIX)
    for port in range(COAP, COAP + 4):
        site.nodes(NODES, port)
    client = site.client(in_network(site, 1, 1))
    assert len({site.ask(client, PING, port=port).node for port in range(COAP, COAP + 4)}) == 1


@pytest.mark.parametrize("family", [4], ids=["ip4"])
def test_affinity_is_forgotten_when_the_network_has_been_silent(site: Site) -> None:
    """Kept by the packets of flows, not by new flows alone."""
    settings = 'scheduler = "random"\nflow_timeout = "1s"\naffinity = { ip4 = 24, ip6 = 112, timeout = "3s" }'
    if site.plane == "xdp":
        settings = settings.replace('scheduler = "random"\n', "")
    site.serve(nodes=3, protocol="udp", settings=settings)
    site.nodes(NODES, COAP)
    client, other = (site.client(in_network(site, 1, host)) for host in (1, 2))
    node = site.ask(client, PING, port=COAP).node
    end = time.monotonic() + 4
    while time.monotonic() < end:
        site.ask(client, PING, port=COAP)
        time.sleep(0.3)
    assert site.ask(other, PING, port=COAP).node == node
    if site.plane == "nftables":
        assert elements(site) == 1
        time.sleep(4.2)
        assert elements(site) == 0


def elements(site: Site) -> int:
    listed = site.lab.run("gw", ["nft", "list", "map", "inet", "pointsman", f"s/ip{site.family}/networks"])
    return listed.stdout.count("expires")
