"""How many flows are remembered is told by node and kind, with a daemon and without."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from typing import Any

import pytest
from tests.conformance.evidence import refused
from tests.conformance.serving import serving
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")


def flows(site: Site, *which: str) -> dict[tuple[str, str], int]:
    """By node and kind."""
    rows = json.loads(site.pointsman("flows", *which, "--json").stdout)
    return {(row["node"], row["kind"]): row["flows"] for row in rows}


def reached(site: Site, clients: int) -> Counter[str]:
    return Counter(site.ask(site.client(), PING, port=COAP).node for _ in range(clients))


def answered(site: Site) -> str:
    """What a flow is that a node has answered: nftables does not tell it from others."""
    return "answered" if site.plane == "xdp" else "flow"


def clients_of(site: Site, node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.pointsman("flows", f"s/{node}", "--list", "--json").stdout)
    return found


def test_flows_are_counted_by_node(site: Site) -> None:
    site.serve(protocol="udp")
    site.nodes(["n1", "n2"], COAP)
    assert flows(site) == {}
    nodes = reached(site, 20)
    kind = answered(site)
    assert flows(site) == {(node, kind): number for node, number in nodes.items()}
    assert flows(site, "s/n1") == {("n1", kind): nodes["n1"]}
    assert kind in site.pointsman("flows").stdout
    assert "'s/n9'" in refused(site.pointsman("flows", "s/n9", check=False), 2)


def test_what_is_over_is_not_counted(site: Site) -> None:
    site.serve(protocol="udp", settings='flow_timeout = "1s"')
    site.nodes(["n1", "n2"], COAP)
    reached(site, 5)
    assert sum(flows(site).values()) == 5
    time.sleep(2.2)
    assert flows(site) == {}
    assert clients_of(site, "n1") == {"clients": [], "hashed": 0}


def test_a_table_of_its_own_is_counted(site: Site) -> None:
    site.serve(protocol="udp", settings="flow_table_size = 4096")
    site.nodes(["n1", "n2"], COAP)
    nodes = reached(site, 12)
    assert flows(site) == {(node, answered(site)): number for node, number in nodes.items()}


def test_thousands_of_flows_are_counted(site: Site) -> None:
    site.serve(nodes=["n1"], protocol="udp", settings='flow_timeout = "1h"')
    site.node("n1", COAP)
    for port in range(20_000, 23_000):
        with site.lab.socket("client", site.inet, socket.SOCK_DGRAM) as client:
            client.bind((site.lab.address("client", site.family), port))
            client.sendto(PING, (site.vip, COAP))
    assert flows(site) == {("n1", "new" if site.plane == "xdp" else "flow"): 3000}


def test_clients_of_a_node_are_listed_as_far_as_the_memory_names_them(site: Site) -> None:
    site.serve(nodes=["n1"], protocol="udp", settings='flow_timeout = "100s"')
    site.node("n1", COAP)
    client = site.client()
    site.ask(client, PING, port=COAP)
    found = clients_of(site, "n1")
    if site.plane == "xdp" or site.family == 6:
        assert found == {"clients": [], "hashed": 1}
        assert "hashes" in site.pointsman("flows", "s/n1", "--list").stdout
        return
    (one,) = found["clients"]
    assert (one["address"], one["port"]) == client.getsockname()[:2]
    assert 80 < one["seconds"] <= 100
    assert one["address"] in site.pointsman("flows", "s/n1", "--list").stdout


def test_closing_connections_are_told_apart(site: Site) -> None:
    site.serve(nodes=["n1"], protocol="tcp")
    with servers(site, "n1"), connections(site, 3) as found:
        assert all(each.echoes() for each in found)
        assert flows(site) == {("n1", answered(site)): 3}
        found[0].socket.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        assert flows(site) == {("n1", answered(site)): 2, ("n1", "closing"): 1}


@pytest.mark.asks("affinity")
def test_networks_of_affinity_are_told_apart(site: Site) -> None:
    site.serve(nodes=["n1"], protocol="udp", settings='affinity = "client-address"')
    site.node("n1", COAP)
    reached(site, 3)
    assert flows(site) == {("n1", answered(site)): 3, ("n1", "network"): 1}


def test_flows_of_a_removed_node_that_lingers_are_told_as_leaving(site: Site) -> None:
    settings = 'linger = "1m"'
    site.serve(protocol="udp", settings=settings)
    site.nodes(["n1", "n2"], COAP)
    nodes = reached(site, 20)
    site.serve(nodes=["n1"], protocol="udp", settings=settings)
    rows = json.loads(site.pointsman("flows", "--json").stdout)
    assert {(row["node"], row["leaving"], row["flows"]) for row in rows} == {
        ("n1", False, nodes["n1"]),
        ("n2", True, nodes["n2"]),
    }


def test_a_daemon_tells_them_too_and_how_many_a_draining_node_has(site: Site) -> None:
    site.nodes(["n1", "n2"], COAP)
    with serving(site, site.config(protocol="udp")):
        nodes = reached(site, 20)
        site.pointsman("node", "drain", "s/n1")
        time.sleep(5.1)  # a count is shown for five seconds
        assert flows(site) == {(node, answered(site)): number for node, number in nodes.items()}
        (service,) = site.status()["services"]
        assert {node["name"]: node["flows"] for node in service["nodes"]} == nodes
        waited = site.pointsman(
            "node", "drain", "s/n1", "--wait", "--quiet", "1h", "--timeout", "1s", check=False
        )
        assert f"flows {nodes['n1']}" in waited.stdout + waited.stderr
