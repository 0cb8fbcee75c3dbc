"""How the VIP at a node is asked: ports that stay, and the table."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address

from tests.unit.health.gateways import gateway, service

from pointsman.health.at_node import ENGINE, PROBE, Lane, Way, ports, table, way_to
from pointsman.health.targets import Target, watched
from pointsman.model import Check, CheckKind, Forward

NODES = {"n1": ("10.0.0.1", "fd00::1"), "n2": ("10.0.0.2", "fd00::2")}
LAN = Way("lan0", frozenset({"lan0"}))
SMALL = Lane("t", 100, 102, 1)


def targets(*kinds: CheckKind, forward: Forward = Forward.DSR) -> list[Target]:
    one = replace(service([Check(kind) for kind in kinds], NODES, families=(4, 6)), forward=forward)
    return [target for node in watched(gateway(one)) for target in node.targets]


def test_with_dsr_the_vip_is_asked_at_the_node_where_there_is_a_port() -> None:
    found = [str(target) for target in targets(CheckKind.TCP, CheckKind.ICMP)[:4]]
    assert found == [
        "192.0.2.1:80 at 10.0.0.1",
        "[2001:db8::1]:80 at fd00::1",
        "10.0.0.1",
        "fd00::1",
    ]
    assert all(target.vip is None for target in targets(CheckKind.TCP, forward=Forward.NAT))
    assert all(target.vip is None for target in targets(CheckKind.SCRIPT))
    assert all(target.tunnel is None for target in targets(CheckKind.TCP))


def test_lanes_have_no_port_in_common() -> None:
    assert ENGINE.last < PROBE.first
    assert ENGINE.first > 60999  # the kernel's own choice ends there
    assert PROBE.last == 65535
    assert ENGINE.priority != PROBE.priority


def test_a_target_keeps_its_port_and_who_comes_too_late_has_none() -> None:
    found = targets(CheckKind.TCP)
    first = ports(SMALL, found[:2], {})
    assert list(first.values()) == [100, 101]
    later = ports(SMALL, found[1:], first)
    assert later[found[1]] == 101
    assert sorted(later.values()) == [100, 101, 102]
    full = ports(SMALL, found, {})
    assert len(full) == 3
    assert found[3] not in full


def test_the_table_is_put_in_place_in_one_transaction_on_the_links_that_have_nodes() -> None:
    by_port = ports(SMALL, targets(CheckKind.TCP)[:2], {})
    text = table(SMALL, by_port, dict.fromkeys(by_port, LAN))
    assert text.startswith("table netdev t\ndelete table netdev t\ntable netdev t {\n")
    assert "elements = { 10.0.0.1 . 100 : 192.0.2.1 }" in text
    assert "elements = { 2001:db8::1 . 101 : fd00::1 }" in text
    assert text.count('hook egress device "lan0"') == text.count('hook ingress device "lan0"') == 1
    other = Way("lan1", frozenset({"lan1", "wan0"}))
    text = table(SMALL, by_port, dict(zip(by_port, (LAN, other), strict=True)))
    assert re.findall(r'hook (\w+) device "(\w+)"', text) == [
        ("egress", "lan0"),
        ("egress", "lan1"),
        ("ingress", "lan0"),
        ("ingress", "lan1"),
        ("ingress", "wan0"),
    ]


def test_the_way_is_by_the_route_or_the_checks_link_and_back_to_the_address_asked_from() -> None:
    (target, *_) = targets(CheckKind.TCP)
    ours = {
        ip_address("10.0.0.254"): "lan0",
        ip_address("198.51.100.1"): "wan0",
        ip_address("10.9.9.9"): "lo",
    }
    route = "lan0", ip_address("10.0.0.254")
    assert way_to(target, route, ours) == LAN
    assert way_to(target, None, ours) is None
    assert way_to(target, ("lan0", None), ours) == LAN
    from_wan = replace(target, check=replace(target.check, sources=(ip_address("198.51.100.1"),)))
    assert way_to(from_wan, route, ours) == Way("lan0", frozenset({"lan0", "wan0"}))
    from_lo = replace(target, check=replace(target.check, sources=(ip_address("10.9.9.9"),)))
    assert way_to(from_lo, route, ours) == LAN
    by_link = replace(target, check=replace(target.check, interface="lan1"))
    assert way_to(by_link, route, ours) == Way("lan1", frozenset({"lan0", "lan1"}))
    assert way_to(by_link, None, ours) == Way("lan1", frozenset({"lan1"}))


def test_without_targets_the_table_goes() -> None:
    assert table(SMALL, {}, {}) == "table netdev t\ndelete table netdev t\n"
    assert table(SMALL, ports(SMALL, targets(CheckKind.TCP), {}), {}) == table(SMALL, {}, {})
