"""What becomes of a removed node's connections: closed at once, or followed for as long as the service says."""

from __future__ import annotations

import time

import pytest
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")


def test_without_linger_a_removed_nodes_connections_are_closed(site: Site) -> None:
    site.serve(nodes=["n1", "n2"], protocol="tcp")
    with servers(site, "n1", "n2"), connections(site, 24) as found:
        site.serve(nodes=["n2"], protocol="tcp")
        for each in found:
            if each.node == "n2":
                assert each.echoes()
            else:
                with pytest.raises(ConnectionResetError):
                    each.echoes()
        assert {each.node for each in found} == {"n1", "n2"}


def test_with_linger_they_go_on_and_new_ones_go_elsewhere(site: Site) -> None:
    settings = 'linger = "1m"'
    site.serve(nodes=["n1", "n2"], protocol="tcp", settings=settings)
    with servers(site, "n1", "n2"), connections(site, 24) as found:
        site.serve(nodes=["n2"], protocol="tcp", settings=settings)
        assert all(each.echoes() for each in found)
        assert {each.node for each in found} == {"n1", "n2"}
        with connections(site, 8) as late:
            assert {each.node for each in late} == {"n2"}


@pytest.mark.parametrize("family", [4], ids=["ip4"])
def test_linger_ends_by_itself_for_a_steady_sender_and_not_before(site: Site) -> None:
    """Longer than a flow is remembered that nobody refreshes."""
    settings = 'linger = "4s"\nflow_timeout = "2s"'
    site.serve(protocol="udp", settings=settings)
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    gone = site.ask(client, PING, port=COAP).node
    site.serve(nodes=[{"n1": "n2", "n2": "n1"}[gone]], protocol="udp", settings=settings)
    removed = time.monotonic()
    stayed = 0.0
    while time.monotonic() < removed + 7:
        if site.ask(client, PING, port=COAP).node == gone:
            stayed = time.monotonic() - removed
        time.sleep(0.2)
    assert 2.5 < stayed < 5.5
