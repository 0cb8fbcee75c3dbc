"""How the VIP at a node is asked: ports that stay, and the table."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from tests.unit.health.gateways import gateway, service

from pointsman.health.at_node import ENGINE, PROBE, Lane, ports, table
from pointsman.health.targets import Target, watched
from pointsman.model import Check, CheckKind, Forward

NODES = {"n1": ("10.0.0.1", "fd00::1"), "n2": ("10.0.0.2", "fd00::2")}
SMALL = Lane("t", 100, 102)


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
    assert all(target.vip is None for target in targets(CheckKind.TCP, forward=Forward.TUNNEL))
    assert all(target.vip is None for target in targets(CheckKind.SCRIPT))


def test_lanes_have_no_port_in_common() -> None:
    assert ENGINE.last < PROBE.first
    assert ENGINE.first > 60999  # the kernel's own choice ends there
    assert PROBE.last == 65535


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
    devices = {ip_address("10.0.0.1"): "lan0", ip_address("fd00::1"): "lan0", ip_address("10.0.0.9"): "x"}
    text = table(SMALL, by_port, devices)
    assert text.startswith("table netdev t\ndelete table netdev t\ntable netdev t {\n")
    assert "elements = { 10.0.0.1 . 100 : 192.0.2.1 }" in text
    assert "elements = { 2001:db8::1 . 101 : fd00::1 }" in text
    assert text.count('hook egress device "lan0"') == text.count('hook ingress device "lan0"') == 1
    assert '"x"' not in text


def test_without_targets_the_table_goes() -> None:
    assert table(SMALL, {}, {}) == "table netdev t\ndelete table netdev t\n"
    assert table(SMALL, ports(SMALL, targets(CheckKind.TCP), {}), {}) == table(SMALL, {}, {})
