"""Backup nodes take new flows where no other node does, and only then."""

from __future__ import annotations

import pytest
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")
NODES = ("n1", "n2", "n3")


@pytest.fixture
def served(site: Site) -> Site:
    text = site.config(nodes=3, protocol="tcp").replace('name = "n3"', 'name = "n3"\nbackup = true')
    site.apply(text)
    return site


def reached(site: Site, count: int = 8) -> set[str]:
    with connections(site, count) as found:
        return {each.node for each in found}


def test_backup_serves_when_no_other_can_and_keeps_what_it_took(served: Site) -> None:
    with servers(served, *NODES):
        assert reached(served, 16) == {"n1", "n2"}
        served.order("drain", "n1")
        assert reached(served) == {"n2"}
        served.order("disable", "n2")
        with connections(served, 4) as taken:
            assert {each.node for each in taken} == {"n3"}
            served.order("enable", "n1")
            assert reached(served) == {"n1"}
            assert all(each.echoes() for each in taken), "its connections stay when the others are back"
        served.order("disable", "n1")
        served.order("disable", "n3")
    assert served.counted("no_node") == 0


@pytest.mark.asks("affinity")
def test_affinity_to_a_backup_ends_when_the_others_are_back(site: Site) -> None:
    text = site.config(nodes=2, protocol="udp", settings='affinity = "client-address"')
    site.apply(text.replace('name = "n2"', 'name = "n2"\nbackup = true'))
    site.nodes(["n1", "n2"], COAP)
    site.order("drain", "n1")
    assert site.ask(site.client(), PING, port=COAP).node == "n2"
    site.order("enable", "n1")
    assert site.ask(site.client(), PING, port=COAP).node == "n1"
