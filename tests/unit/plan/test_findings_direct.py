"""What is worth telling of services whose nodes answer by themselves, from values alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from pointsman.config import parse
from pointsman.model import Gateway
from pointsman.plan.around import Surroundings
from pointsman.plan.findings import find
from pointsman.plan.foreign import Filter

TEXT = """
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "s"
protocol = "udp"
FORWARD
listen = [{ address = "192.0.2.10:53", interface = "wan0" }, { address = "[2001:db8::10]:53", interface = "wan0" }]
[[service.node]]
name = "n1"
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
address = ["10.0.0.12", "fd00::12"]
"""
DSR, TUNNEL = 'forward = "dsr"', 'forward = "tunnel"\nsource = ["10.0.0.1", "fd00::1"]'
NODES = [ip_address(text) for text in ("10.0.0.11", "10.0.0.12", "fd00::11", "fd00::12")]
GOOD = Surroundings(
    mtu={"lo": 65536, "wan0": 1500, "lan0": 9000, "ppp0": 1492},
    addresses={ip_address("10.0.0.1"): "lan0", ip_address("fd00::1"): "lan0"},
    routes=dict.fromkeys(NODES, "lan0"),
    ethernet=frozenset({"wan0", "lan0"}),
)


def gateway(forward: str) -> Gateway:
    return parse(TEXT.replace("FORWARD", forward), "t.toml").gateway


def said(forward: str, around: Surroundings, plane: str = "xdp") -> list[str]:
    return [
        f"{'error' if finding.fatal else 'warning'}: {finding.text}"
        for finding in find(gateway(forward), around, plane)
    ]


@pytest.mark.parametrize("forward", [DSR, TUNNEL])
@pytest.mark.parametrize("plane", ["nftables", "xdp"])
def test_nothing_is_said_of_a_machine_that_is_as_it_should_be(forward: str, plane: str) -> None:
    assert said(forward, GOOD, plane) == []


def test_nodes_behind_a_router() -> None:
    around = replace(GOOD, routers={NODES[0]: "10.0.0.254"})
    assert said(DSR, around) == [
        "error: service s, node n1: 10.0.0.11 is behind the router 10.0.0.254, which would send the VIP's packets "
        'back here; name an address on a link of this machine, or say forward = "tunnel"'
    ]
    assert said(TUNNEL, around) == []


def test_a_tunnel_that_begins_nowhere() -> None:
    (line,) = said(TUNNEL, replace(GOOD, addresses={ip_address("fd00::1"): "lan0"}))
    assert line.startswith("error: service s: source 10.0.0.1 is no address of this machine; take one")


def test_the_room_that_tunnels_take() -> None:
    narrow = replace(GOOD, mtu={**GOOD.mtu, "lan0": 1500})
    assert said(TUNNEL, narrow) == [
        "warning: service s: clients' link wan0 has MTU 1500, and the tunnel over lan0 takes 1480: larger packets "
        "are answered as too big; if the whole way to the nodes allows it, `ip link set lan0 mtu 1520`",
        "warning: service s: clients' link wan0 has MTU 1500, and the tunnel over lan0 takes 1460: larger packets "
        "are answered as too big; if the whole way to the nodes allows it, `ip link set lan0 mtu 1540`",
    ]
    assert len(said(TUNNEL + '\nencapsulation = "gue"', replace(GOOD, mtu={**GOOD.mtu, "lan0": 1548}))) == 0
    assert len(said(TUNNEL + '\nencapsulation = "gue"', replace(GOOD, mtu={**GOOD.mtu, "lan0": 1547}))) == 1


def test_too_little_room_for_ipv6() -> None:
    tiny = replace(GOOD, mtu={**GOOD.mtu, "wan0": 1280, "lan0": 1300})
    (line,) = said(TUNNEL, tiny)
    assert line.startswith(
        "error: service s: the nodes' link lan0 has MTU 1300, which leaves 1260 bytes for IPv6"
    )


def test_links_without_ethernet_on_nftables() -> None:
    around = replace(GOOD, ethernet=frozenset({"lan0"}))
    lines = said(DSR, around, "nftables")
    assert len(lines) == 2
    assert lines[0].startswith("error: service s, listener 192.0.2.10:53: wan0 is no Ethernet")
    assert said(DSR, around) == []


def test_vrfs_on_nftables() -> None:
    around = replace(GOOD, masters={"wan0": ("blue", "vrf")}, vrfs=frozenset({"blue"}))
    assert all("is in the VRF blue" in line for line in said(DSR, around, "nftables"))
    assert said(DSR, around) == []


def test_forward_chains_do_not_see_them() -> None:
    dropping = Filter("chain inet fw forward", "inet", "fw", "forward", "forward", "drop", {"forward": ()})
    around = replace(GOOD, filters=(dropping,))
    assert said(DSR, around, "nftables") == []
    assert said("", around, "nftables") != []
