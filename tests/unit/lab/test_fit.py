"""A lab that fits a file has the file's nodes, and servers where their packets arrive."""

from __future__ import annotations

import pytest

from pointsman.config import parse
from pointsman.lab.errors import LabError
from pointsman.lab.fit import fit, servers
from pointsman.lab.topology import Topology
from pointsman.model import Gateway

HEAD = '[gateway]\nname = "g"\nhash_seed = 1\n'
SERVICE = """
[[service]]
name = "{name}"
protocol = "udp"
listen = ["{listen}"]
  [[service.node]]
  name = "a"
  address = ["{first}", "fd00:7::1"]
  [[service.node]]
  name = "b"
  address = "10.0.0.12"
"""


def gateway(*services: str) -> Gateway:
    return parse(HEAD + "".join(services), "g").gateway


def one(name: str = "s", listen: str = "192.0.2.10:53", first: str = "10.9.9.9") -> str:
    return SERVICE.format(name=name, listen=listen, first=first)


def fitted(*services: str) -> Topology:
    return fit("t", gateway(*services), nats=1, devices=1)


def test_nodes_have_the_addresses_of_the_file() -> None:
    topology = fitted(one())
    assert topology.nodes == 2
    assert topology.address("n1", 4) == "10.9.9.9"
    assert topology.address("n1", 6) == "fd00:7::1"
    assert topology.address("n2", 4) == "10.0.0.12"


def test_the_gateway_reaches_addresses_that_are_not_on_its_segment() -> None:
    topology = fitted(one())
    routes = {str(route.prefix) for route in topology.machine("gw").routes if route.device == "lan0"}
    assert routes == {"10.9.9.9/32", "fd00:7::1/128"}
    assert [str(route.prefix) for route in topology.machine("n1").routes] == [
        "10.0.0.1/32",
        "fd00::1/128",
        "None",
        "None",
    ]
    assert [str(route.prefix) for route in topology.machine("n2").routes] == ["None"]


def test_a_server_of_two_services_is_one_machine() -> None:
    services = one(), one("t", "192.0.2.10:54")
    assert fitted(*services).nodes == 2
    assert [(each.machine, each.service, each.listen[0].port) for each in servers(gateway(*services))] == [
        ("n1", "s", 53),
        ("n2", "s", 53),
        ("n1", "t", 54),
        ("n2", "t", 54),
    ]


def test_an_interface_that_no_lab_has_is_refused() -> None:
    text = one().replace('["192.0.2.10:53"]', '[{ address = "192.0.2.10:53", interface = "eth7" }]')
    with pytest.raises(LabError, match="interface eth7 is none of a lab's; its gateway has wan0 and lan0"):
        fitted(text)
