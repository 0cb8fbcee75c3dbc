"""Which of the services' packets a forwarding policy lets pass, by forward mode, and the text of its rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pointsman.config import parse
from pointsman.model import Forward, NodeStates
from pointsman.model.abilities import NFTABLES, XDP
from pointsman.plan.forwarding import Accepts, ForwardTable, accepts, compile_forwarding
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels

FILE = """\
[gateway]
name = "g"
hash_seed = 1
[forwarding]
policy = "drop"
interfaces = ["wan0", "lan0"]
[[service]]
name = "coap"
protocol = "udp"
listen = [{ address = "192.0.2.10:5683", node_port = 15683 }]
  [[service.node]]
  name = "n1"
  address = "10.0.0.11"
  [[service.node]]
  name = "n2"
  address = "10.0.0.12:7"
"""


def inputs(forward: Forward = Forward.NAT, text: str = FILE) -> PlaneInputs:
    gateway = parse(text, "g").gateway
    service = replace(gateway.services[0], forward=forward)
    return PlaneInputs(replace(gateway, services=(service,)), NodeStates(), Labels())


def shown(found: Accepts) -> tuple[list[str], list[str]]:
    def each(own: frozenset[tuple[str, object]]) -> list[str]:
        return sorted(f"{protocol} {endpoint}" for protocol, endpoint in own)

    return each(found.nodes), each(found.tracked)


def test_nat_passes_to_the_nodes_own_ports() -> None:
    nodes = ["udp 10.0.0.11:15683", "udp 10.0.0.12:7"]
    assert shown(accepts(inputs(), NFTABLES)) == (nodes, [])
    assert shown(accepts(inputs(Forward.FULL_NAT), NFTABLES)) == ([], nodes)


@pytest.mark.parametrize("forward", [Forward.DSR, Forward.TUNNEL])
def test_what_the_gateway_sends_itself_needs_nothing(forward: Forward) -> None:
    assert accepts(inputs(forward), NFTABLES) == Accepts()


def test_xdp_forwards_by_itself() -> None:
    assert accepts(inputs(), XDP) == Accepts()


def test_a_leaving_node_is_still_reached() -> None:
    have = inputs()
    gone = have.gateway.services[0].nodes[0]
    service = replace(have.gateway.services[0], nodes=have.gateway.services[0].nodes[1:])
    want = replace(
        have,
        gateway=replace(have.gateway, services=(service,)),
        leaving=(Leaving("coap", gone, 1, 9),),
    )
    assert accepts(want, NFTABLES) == accepts(have, NFTABLES)


def table(rules: str) -> ForwardTable:
    policy = parse(FILE.replace("[[service]]", f"{rules}\n[[service]]", 1), "g").gateway.forwarding
    assert policy is not None
    return compile_forwarding(policy, Accepts())


def allowing(rules: str) -> list[str]:
    lines = table(rules).body.splitlines()
    new = [line.partition(" judge ")[2] for line in lines if " judge ct state new" in line]
    return [line for line in new if "@tracked" not in line]


def test_a_rule_is_said_for_each_ip_version_that_both_ends_have() -> None:
    assert allowing(
        '[[forwarding.allow]]\nfrom = ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]\nto = "192.0.2.0/24"'
    ) == ["ct state new ip saddr { 10.0.0.0/8 } ip daddr { 192.0.2.0/24 } accept"]


def test_both_ways_turns_ends_and_interfaces_round_but_not_the_ports() -> None:
    rules = (
        '[[forwarding.allow]]\nfrom = "fd00::/8"\nprotocol = "tcp"\nports = [80, 443, "81-90"]\n'
        'in_interface = "lan0"\nboth_ways = true'
    )
    assert allowing(rules) == [
        'ct state new iifname { "lan0" } ip6 saddr { fd00::/8 } meta l4proto tcp th dport { 80-90, 443 } accept',
        'ct state new oifname { "lan0" } ip6 daddr { fd00::/8 } meta l4proto tcp th dport { 80-90, 443 } accept',
    ]


def test_a_table_that_stands_as_it_should_is_not_touched_and_another_versions_is_replaced() -> None:
    own = table("")
    assert own.transaction(own.stamp) == ""
    assert "delete table" not in own.transaction("2-another")
    assert "delete table" in own.transaction("0-another")
    assert "delete table" in own.transaction(None)
    assert table('[[forwarding.allow]]\nprotocol = "icmp"').stamp != own.stamp
