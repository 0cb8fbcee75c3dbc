"""A range of ports: each is a listener, and the nodes' ports are mapped one to one."""

from __future__ import annotations

import pytest
from tests.conformance.site import COAP, Site

PING = bytes.fromhex("40000001")
FIRST, LAST = 8000, 8015


@pytest.mark.parametrize("shifted", [False, True], ids=["same", "shifted"])
def test_ports_map_one_to_one(site: Site, *, shifted: bool) -> None:
    by = 1000 if shifted else 0
    listen = [site.at(site.vip, f"{FIRST}-{LAST}")]
    ports = {"n1": FIRST + by} if shifted else None
    text = site.config(nodes=1, protocol="udp", listen=listen, ports=ports)
    site.apply(text)
    checked = (FIRST, FIRST + 7, LAST)
    for port in checked:
        site.node("n1", port + by)
    client = site.client()
    for port in checked:
        assert site.ask(client, PING, port=port).port == port + by
    site.node("n1", LAST + 1 + by)
    site.dropped(client, PING, port=LAST + 1)


def test_node_port_is_the_first_of_the_nodes_ports(site: Site) -> None:
    text = site.config(nodes=1, protocol="udp").replace(
        f'listen = ["{site.at(site.vip, COAP)}"]',
        f'listen = [{{ address = "{site.at(site.vip, f"{FIRST}-{LAST}")}", node_port = 9100 }}]',
    )
    site.apply(text)
    site.node("n1", 9115)
    assert site.ask(site.client(), PING, port=LAST).port == 9115
