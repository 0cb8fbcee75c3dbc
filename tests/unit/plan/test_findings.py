"""What is worth telling about a machine, from values alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from pointsman.model import Address, Endpoint, Family, Gateway, Listener, Node, NodeAddress, Protocol, Service
from pointsman.plan.findings import Surroundings, fatal, find, vrfs_asked
from pointsman.plan.foreign import Field, Filter, Match, Rule, Span

VIP, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
ANY, ANY6 = IPv4Address(0), IPv6Address(0)
N1, N1_6 = ip_address("10.0.0.11"), ip_address("fd00::11")


def gateway(interface: str | None = "wan0", *, vips: tuple[str, ...] = ("192.0.2.10",)) -> Gateway:
    listeners = tuple(Listener(Endpoint(ip_address(vip), 5684), interface) for vip in vips)
    nodes = (Node("n1", (NodeAddress(N1), NodeAddress(N1_6))),)
    return Gateway("edge", (Service("s", Protocol.DTLS, listeners, nodes),), 1)


GOOD = Surroundings(
    mtu={"lo": 65536, "wan0": 1500, "lan0": 1500},
    addresses={ip_address("198.51.100.1"): "wan0", ip_address("10.0.0.1"): "lan0"},
    routes={N1: "lan0", N1_6: "lan0"},
)


def said(around: Surroundings, asked: Gateway | None = None) -> list[str]:
    return [
        f"{'error' if finding.fatal else 'warning'}: {finding.text}"
        for finding in find(asked or gateway(), around)
    ]


def test_nothing_is_said_of_a_machine_that_is_as_it_should_be() -> None:
    assert said(GOOD) == []


def test_interface_that_is_not_there() -> None:
    (line,) = said(GOOD, gateway("wan9"))
    assert line == "error: service s, listener 192.0.2.10:5684: there is no interface wan9; one of lan0, wan0"


def test_vip_that_nobody_carries() -> None:
    (line,) = said(GOOD, gateway(None))
    assert line.startswith(
        "warning: service s, listener 192.0.2.10:5684: no interface carries 192.0.2.10; name one"
    )
    assert said(replace(GOOD, addresses={VIP: "lo"}), gateway(None)) == []


def test_vip_that_another_interface_carries() -> None:
    (line,) = said(replace(GOOD, addresses={VIP: "lan0"}))
    assert "192.0.2.10 is carried by lan0 already and is left there" in line
    assert said(replace(GOOD, addresses={VIP: "wan0"})) == []


@pytest.mark.parametrize("kind", ["bridge", "bond", "team"])
def test_interface_that_is_a_part_of_another(kind: str) -> None:
    (line,) = said(replace(GOOD, masters={"wan0": ("m0", kind)}))
    assert line.startswith("error: ")
    assert line.endswith(f"interface wan0 is a part of the {kind} m0, which takes all that arrives; name m0")


def test_interface_that_is_down() -> None:
    (line,) = said(replace(GOOD, down=frozenset({"wan0", "other0"})))
    assert line.endswith("interface wan0 is down; `ip link set wan0 up`")


def test_program_on_the_very_port() -> None:
    (line,) = said(replace(GOOD, bound=frozenset({Endpoint(VIP, 5684), Endpoint(ANY, 5684)})))
    assert line.startswith(
        "error: service s, listener 192.0.2.10:5684: a program on this machine is bound to it"
    )


@pytest.mark.parametrize(
    ("vip", "bound", "warned"),
    [
        ("192.0.2.10", ANY, True),
        ("192.0.2.10", ANY6, True),
        ("2001:db8::10", ANY6, True),
        ("2001:db8::10", ANY, False),
        ("192.0.2.10", ip_address("192.0.2.11"), False),
    ],
)
def test_program_on_the_port_of_every_address(vip: str, bound: Address, warned: bool) -> None:
    around = replace(GOOD, bound=frozenset({Endpoint(bound, 5684)}))
    found = said(around, gateway(vips=(vip,)))
    assert ["of every address" in line for line in found] == [True] * warned
    assert said(replace(GOOD, bound=frozenset({Endpoint(bound, 5683)})), gateway(vips=(vip,))) == []


def test_nodes_without_a_route_and_nodes_that_are_this_machine() -> None:
    first, second = said(replace(GOOD, routes={N1: None, N1_6: "lo"}))
    assert first.startswith("error: service s, node n1: fd00::11 is this machine's own")
    assert second == "warning: service s, node n1: no route to 10.0.0.11; add one"
    assert said(replace(GOOD, routes={})) == []


def test_vrf_that_has_no_route_to_a_node() -> None:
    around = replace(GOOD, masters={"wan0": ("red", "vrf")})
    assert vrfs_asked(gateway(), around) == {"red"}
    assert vrfs_asked(gateway(), GOOD) == set()
    assert said(replace(around, vrf_routes={("red", N1): "lan0"})) == []
    (line,) = said(replace(around, vrf_routes={("red", N1): None, ("red", N1_6): None}))
    assert "what arrives on wan0 is routed by the VRF red, which has no route to 10.0.0.11" in line


def test_listener_on_the_device_of_a_vrf_itself() -> None:
    around = replace(GOOD, mtu={**GOOD.mtu, "red": 65575}, vrfs=frozenset({"red"}))
    assert vrfs_asked(gateway("red"), around) == {"red"}
    assert said(replace(around, vrf_routes={("red", N1): "lan0"}), gateway("red")) == []


def test_interface_that_does_not_forward() -> None:
    around = replace(GOOD, silent=frozenset({"wan0", "lan0", "other0"}))
    assert [line.partition(":")[2].split(":")[0].split()[-1] for line in said(around)] == ["lan0", "wan0"]
    dotted = replace(GOOD, mtu={**GOOD.mtu, "wan0.7": 1500}, silent=frozenset({"wan0.7"}))
    (line,) = said(dotted, gateway("wan0.7"))
    assert line.endswith("`sysctl net.ipv4.conf.wan0/7.forwarding=1`")


def test_nodes_link_with_the_smaller_mtu() -> None:
    small = {"lo": 65536, "wan0": 1500, "lan0": 1400}
    (line,) = said(replace(GOOD, mtu=small))
    assert "clients' link wan0 has MTU 1500, nodes' link lan0 only 1400" in line
    assert said(replace(GOOD, mtu={**small, "wan0": 1400})) == []
    assert said(replace(GOOD, mtu={**small, "wan0": 1280})) == []


def test_clients_of_a_vip_on_the_loopback_come_by_the_default_route() -> None:
    around = replace(GOOD, mtu={"lo": 65536, "wan0": 1500, "lan0": 1400}, addresses={VIP: "lo"})
    assert said(around, gateway(None)) == []
    (line,) = said(replace(around, default_routes={Family.V4: "wan0"}), gateway(None))
    assert "clients' link wan0 has MTU 1500" in line


def test_merging_of_datagrams() -> None:
    (line,) = said(replace(GOOD, merging={"wan0": ("rx-gro-list",)}))
    assert line.endswith("`ethtool -K wan0 rx-gro-list off`")


def closed(hook: str, *rules: Rule, policy: str = "drop") -> Surroundings:
    filter_ = Filter("chain inet f c", "inet", "f", "c", hook, policy, {"c": rules})
    return replace(GOOD, filters=(filter_,))


def asks(field: Field, *values: str | Span) -> Rule:
    return Rule((Match(field, values),), "accept")


def test_foreign_chain_that_drops() -> None:
    (line,) = said(closed("forward"))
    assert line == (
        "warning: chain inet f c would drop what the services forward (its policy is drop); "
        "add: nft insert rule inet f c ct state untracked meta l4proto udp accept comment pointsman"
    )
    assert said(closed("forward", policy="accept")) == []


def test_both_directions_must_be_let_through() -> None:
    to_node = asks(Field.DPORT, Span(5684, 5684))
    to_client = asks(Field.SPORT, Span(5684, 5684))
    assert len(said(closed("forward", to_node))) == 1
    assert len(said(closed("forward", to_client))) == 1
    assert said(closed("forward", to_node, to_client)) == []


@pytest.mark.parametrize(
    ("hook", "field", "value"),
    [
        ("forward", Field.IIF, "wan0"),
        ("forward", Field.OIF, "wan0"),
        ("prerouting", Field.IIF, "lan0"),
        ("postrouting", Field.OIF, "wan0"),
    ],
)
def test_interfaces_are_known_where_the_hook_knows_them(hook: str, field: Field, value: str) -> None:
    other = {Field.IIF: {"wan0": "lan0", "lan0": "wan0"}, Field.OIF: {"wan0": "lan0"}}[field][value]
    assert said(closed(hook, asks(field, value, other))) == []
    assert len(said(closed(hook, asks(field, value)))) == 1


def test_answers_have_the_vip_behind_postrouting() -> None:
    vip = asks(Field.SADDR, Span(VIP, VIP))
    node = asks(Field.DADDR, Span(N1, N1))
    assert said(closed("postrouting", vip, node)) == []
    assert len(said(closed("forward", vip, node))) == 1


def test_chains_that_could_not_be_read() -> None:
    assert said(replace(GOOD, unread=("legacy iptables rules are loaded",))) == [
        "warning: legacy iptables rules are loaded"
    ]


def test_fatal_findings_come_first() -> None:
    around = replace(GOOD, routes={N1: None, N1_6: "lo"}, down=frozenset({"wan0"}))
    found = find(gateway(), around)
    assert [finding.fatal for finding in found] == [True, False, False]
    assert fatal(found) == found[:1]


def test_a_thing_is_said_once() -> None:
    asked = gateway(vips=("192.0.2.10", "192.0.2.11"))
    around = replace(GOOD, mtu={"lo": 65536, "wan0": 1500, "lan0": 1400})
    assert len(said(around, asked)) == 1
