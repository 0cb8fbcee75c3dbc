"""What is checked of a gateway, and what makes a node healthy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import product

import pytest
from tests.unit.health.gateways import gateway, service

from pointsman.health.targets import Target, Watched, combined, watched
from pointsman.model import Check, CheckKind, Endpoint, Listener, Require
from pointsman.model.health import CoapTerms, HttpTerms

TCP = Check(CheckKind.TCP)
ICMP = Check(CheckKind.ICMP)
BOTH = {"n1": ("10.0.0.1", "fd00::1"), "n2": ("10.0.0.2", "fd00::2")}


def test_a_service_without_checks_is_not_watched() -> None:
    assert list(watched(gateway(service([], BOTH)))) == []


def test_every_check_is_about_every_address_that_the_service_uses() -> None:
    (n1, n2) = watched(gateway(service([TCP, ICMP], BOTH, families=(4, 6))))
    assert (n1.service, n1.node, n2.node) == ("s", "n1", "n2")
    assert [[str(target) for target in check] for check in n1.checks] == [
        ["10.0.0.1:80", "[fd00::1]:80"],
        ["10.0.0.1", "fd00::1"],
    ]
    (only4, _) = watched(gateway(service([TCP], BOTH)))
    assert [str(target) for target in only4.targets] == ["10.0.0.1:80"]


def test_a_checks_port_goes_before_the_nodes() -> None:
    (n1, _) = watched(gateway(service([replace(TCP, port=9)], BOTH)))
    assert [str(target) for target in n1.targets] == ["10.0.0.1:9"]


def test_of_a_range_of_ports_the_first_is_checked_and_every_other_port() -> None:
    one = service([TCP], BOTH)
    vip = one.listeners[0].endpoint.address
    listeners = [Listener(Endpoint(vip, 8000 + offset), None, None, offset) for offset in range(3)]
    (n1, _) = watched(gateway(replace(one, listeners=(*one.listeners, *listeners))))
    assert [str(target) for target in n1.targets] == ["10.0.0.1:80", "10.0.0.1:8000"]


def test_services_that_name_the_same_node_share_its_check() -> None:
    first = service([TCP], BOTH)
    second = service([TCP, replace(TCP, rise=5)], {"x": ("10.0.0.1",)}, name="t")
    (n1, _, x) = watched(gateway(first, second))
    assert list(n1.targets) == [x.checks[0][0]]
    assert x.checks[1][0] not in set(n1.targets)
    assert len({target for one in (n1, x) for target in one.targets}) == 2


@pytest.mark.parametrize("require", Require)
def test_a_node_is_healthy_if_all_or_any_of_its_checks_are_at_all_addresses(require: Require) -> None:
    check = [[Target(TCP, ip_address(f"10.0.{one}.{own}"), 1) for own in (1, 2)] for one in (1, 2)]
    node = Watched("s", "n", require, tuple(tuple(one) for one in check))
    for states in product([True, False, None], repeat=4):
        of = dict(zip(node.targets, states, strict=True))
        each = [of[check[0][0]], of[check[0][1]]], [of[check[1][0]], of[check[1][1]]]
        verdicts = [False if False in one else None if None in one else True for one in each]
        if require is Require.ALL:
            expected = False if False in verdicts else None if None in verdicts else True
        else:
            expected = True if True in verdicts else None if None in verdicts else False
        assert combined(node, of.__getitem__) is expected, states


def test_targets_that_answer_as_the_vip_have_their_path_behind_it() -> None:
    check = Check(CheckKind.HTTP, terms=HttpTerms(path="/up?deep"))
    target = Target(check, ip_address("10.0.0.1"), 80, Endpoint(ip_address("192.0.2.1"), 80))
    assert str(target) == "192.0.2.1:80/up at 10.0.0.1"
    assert target.host == "192.0.2.1:80"


def test_a_coap_path_is_one_line() -> None:
    check = Check(CheckKind.COAP, terms=CoapTerms(("a b", "\x1b[2J"), ("key=1",)))
    assert str(Target(check, ip_address("10.0.0.1"), 5683)) == "10.0.0.1:5683/a%20b/%1B%5B2J"
