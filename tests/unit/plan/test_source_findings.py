"""What full-nat's sources share with the gateway's own programs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from pointsman.config import parse
from pointsman.model import Endpoint, Gateway, PortRange
from pointsman.plan.source_findings import OwnSockets, port_ranges, source_findings

TEXT = """
[gateway]
name = "edge"
dataplane = "nftables"
[[service]]
name = "web"
protocol = "tcp"
listen = ["192.0.2.10:80"]
forward = "full-nat"
source = "10.0.0.2"
source_ports = "20000-39999"
[[service.node]]
name = "n1"
address = "10.0.0.11"
"""
SOURCE = ip_address("10.0.0.2")
GOOD = OwnSockets(
    carried=frozenset({SOURCE, ip_address("10.0.0.1")}),
    preferred=frozenset({ip_address("10.0.0.1")}),
    local=PortRange(32768, 60999),
)


def gateway() -> Gateway:
    return parse(TEXT, "edge.toml").gateway


def said(own: OwnSockets | None) -> list[str]:
    return list(source_findings(gateway(), own))


def test_an_address_of_its_own_is_fine() -> None:
    assert said(GOOD) == []
    assert said(None) == []


def test_an_address_that_nobody_carries() -> None:
    (line,) = said(replace(GOOD, carried=frozenset()))
    assert line.startswith("service web, source 10.0.0.2: no interface carries 10.0.0.2; add it")


def test_the_address_that_the_gateways_own_connections_have() -> None:
    own = replace(GOOD, preferred=frozenset({SOURCE}))
    (line,) = said(own)
    assert line.endswith("`sysctl net.ipv4.ip_local_reserved_ports=32768-39999`")
    assert said(replace(own, reserved=port_ranges("32768-35000,35001-39999"))) == []
    assert len(said(replace(own, reserved=port_ranges("32768-35000,35002-39999")))) == 1
    assert said(replace(own, local=PortRange(40000, 60999))) == []


@pytest.mark.parametrize("address", [SOURCE, IPv4Address(0), IPv6Address(0)])
def test_a_program_that_listens_on_one_of_the_ports(address: IPv4Address | IPv6Address) -> None:
    (line,) = said(replace(GOOD, tcp=frozenset({Endpoint(address, 20022), Endpoint(address, 22)})))
    assert "a program on this machine is bound to port 20022, which" in line
    assert said(replace(GOOD, udp=frozenset({Endpoint(address, 20022)}))) == []


def test_settings_of_the_kernel_are_read() -> None:
    assert port_ranges("32768\t60999") == (PortRange(32768, 60999),)
    assert port_ranges("8080,9000-9100") == (PortRange(8080, 8080), PortRange(9000, 9100))
    assert port_ranges("") == ()
