"""Mistakes in the forwarding policy, each one line that says what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse
from pointsman.model import AllowedProtocol, PortRange

ALONE = '[gateway]\nname = "g"\nhash_seed = 1\n'
POLICY = '[forwarding]\npolicy = "drop"\ninterfaces = ["wan0"]\n'
ALLOW = "[[forwarding.allow]]\n"


def test_a_policy_alone_is_a_good_file() -> None:
    found = parse(ALONE + POLICY, "g").gateway
    assert found.services == ()
    assert found.forwarding is not None
    assert found.forwarding.interfaces == ("wan0",)


def test_a_rule_as_it_is_meant() -> None:
    text = ALLOW + 'from = "10.0.0.0/8"\nprotocol = "udp"\nports = [53, "60-70"]\nout_interface = "wan0"\n'
    forwarding = parse(ALONE + POLICY + text, "g").gateway.forwarding
    assert forwarding is not None
    (rule,) = forwarding.allowed
    assert [str(own) for own in rule.sources] == ["10.0.0.0/8"]
    assert rule.protocol is AllowedProtocol.UDP
    assert rule.ports == (PortRange(53, 53), PortRange(60, 70))
    assert (rule.incoming, rule.outgoing, rule.both_ways) == ((), ("wan0",), False)


def test_accept_is_as_if_there_were_no_policy() -> None:
    text = ALONE + POLICY.replace('"drop"', '"accept"')
    assert parse(text, "g").gateway.forwarding is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[forwarding]\npolicy = "drop"\n', "g:4: forwarding: interfaces is empty"),
        ('[forwarding]\ninterfaces = ["wan0"]\n', "g:4: forwarding: policy is missing"),
        (POLICY.replace("drop", "deny"), 'g:5: forwarding: policy "deny" is unknown; "accept" or "drop"'),
        (POLICY + "allow = 1\n", "g:7: forwarding: allow 1 is an integer; [[forwarding.allow]] in double"),
        (POLICY + ALLOW, "g:7: forwarding, allow #1: this allows everything"),
        (POLICY + ALLOW + "both_ways = true\n", "g:7: forwarding, allow #1: this allows everything"),
        (POLICY + ALLOW + 'form = "10.0.0.0/8"\n', "allow #1: unknown key form; did you mean from?"),
        (
            POLICY + ALLOW + 'from = "10.0.0.0/33"\n',
            'g:8: forwarding, allow #1: from "10.0.0.0/33" is no prefix',
        ),
        (POLICY + ALLOW + "from = 7\n", "g:8: forwarding, allow #1: from 7 is an integer"),
        (
            POLICY + ALLOW + 'from = "10.0.0.0/8"\nto = "fd00::/8"\n',
            "g:9: forwarding, allow #1: from and to have no IP version in common",
        ),
        (POLICY + ALLOW + "ports = [53]\n", 'g:8: forwarding, allow #1: ports with protocol = "any"'),
        (
            POLICY + ALLOW + 'protocol = "tcp"\nports = ["9-3"]\n',
            'g:9: forwarding, allow #1: ports "9-3" is no port or range of ports',
        ),
        (POLICY + ALLOW + 'in_interface = "a b"\n', 'allow #1: in_interface "a b" is malformed'),
        (
            POLICY + ALLOW + 'protocol = "sctp"\n',
            'allow #1: protocol "sctp" is unknown; "any", "tcp", "udp" or "icmp"',
        ),
        ("[[forwarding]]\n", "forwarding is an array"),
    ],
)
def test_mistake_is_one_line_with_its_place(
    mistakes: Callable[[str], list[str]], text: str, line: str
) -> None:
    found = mistakes(ALONE + text)
    assert len(found) == 1, found
    assert line in found[0]
