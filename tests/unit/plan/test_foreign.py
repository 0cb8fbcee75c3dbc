"""Reading other people's rules, and sending packets through them on paper."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from pointsman.model import Family
from pointsman.plan import foreign_iptables, foreign_nft
from pointsman.plan.foreign import Filter, Outcome, Packet, Rule, first_drop, line_to_add, walk

TO_NODE = Packet(Family.V4, iif="wan0", oif="lan0", daddr=ip_address("10.0.0.11"), dport=5684)
TO_CLIENT = Packet(Family.V4, iif="lan0", oif="wan0", saddr=ip_address("10.0.0.11"), sport=5684)
TO_NODE6 = Packet(Family.V6, iif="wan0", oif="lan0", daddr=ip_address("fd00::11"), dport=5684)
ANYWHERE = Packet(Family.V4, oif="lan0", daddr=ip_address("10.0.0.11"), dport=5684)


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def header(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


STATE = {"ct": {"key": "state"}}
DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}


def of(*rules: list[dict[str, Any]], policy: str = "accept", **chains: tuple[Rule, ...]) -> Filter:
    own = foreign_nft.rules_of({"expr": rule} for rule in rules)
    return Filter("chain inet f c", "inet", "f", "c", "forward", policy, {"c": own, **chains})


def drops(rule: list[dict[str, Any]], packet: Packet = TO_NODE) -> bool:
    return walk(of(rule), packet).dropped


def test_policy_decides_what_no_rule_takes() -> None:
    assert walk(of(policy="drop"), TO_NODE) == Outcome(True, "its policy is drop")
    assert not walk(of([ACCEPT], policy="drop"), TO_NODE).dropped


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        (match(STATE, ["invalid", "untracked"], "in"), True),
        (match(STATE, ["established", "related"], "in"), False),
        (match(STATE, {"set": ["established", "untracked"]}), True),
        (match(STATE, "established", "!="), True),
        (match(STATE, {"set": ["established", "untracked"]}, "!="), False),
        (match({"ct": {"key": "status"}}, "dnat", "in"), False),
        (match({"ct": {"key": "mark"}}, 1, "!="), False),
        (match(meta("iifname"), "wan0"), True),
        (match(meta("iif"), "lo"), False),
        (match(meta("iifname"), "wan*"), True),
        (match(meta("iifname"), "docker*", "!="), True),
        (match(meta("oifname"), {"set": ["docker0", "lan0"]}), True),
        (match(meta("iifname"), {"set": [{"range": ["", ""]}]}), False),
        (match(meta("l4proto"), "udp"), True),
        (match(meta("l4proto"), {"set": ["tcp", 17]}), True),
        (match(meta("nfproto"), "ipv4"), True),
        (match(meta("nfproto"), "ipv6"), False),
        (match(meta("mark"), 1), False),
        (match(header("ip", "protocol"), "tcp", "!="), True),
        (match(header("ip", "daddr"), {"prefix": {"addr": "10.0.0.0", "len": 8}}), True),
        (match(header("ip", "daddr"), {"prefix": {"addr": "10.0.0.0", "len": 8}}, "!="), False),
        (match(header("ip", "daddr"), {"set": [{"range": ["10.0.0.1", "10.0.0.10"]}, "10.0.0.11"]}), True),
        (match(header("ip", "daddr"), "@blocked"), False),
        (match(header("ip", "daddr"), "@blocked", "!="), False),
        (match(header("ip", "saddr"), "198.51.100.1"), False),
        (match(header("ip", "saddr"), "198.51.100.1", "!="), False),
        (match(header("ip6", "daddr"), "fd00::11", "!="), False),
        (match(header("udp", "dport"), 5684), True),
        (match(header("th", "dport"), {"set": [53, {"range": [5000, 6000]}]}), True),
        (match(header("udp", "dport"), 5684, "!="), False),
        (match(header("udp", "dport"), 1024, ">"), True),
        (match(header("udp", "dport"), 5684, "<"), False),
        (match(header("udp", "dport"), 5684, "<="), True),
        (match(header("tcp", "dport"), 5684), False),
        (match(header("tcp", "flags"), "syn", "in"), False),
        (match(header("ether", "saddr"), "02:00:00:00:00:01"), False),
        (match({"concat": [meta("iifname"), meta("oifname")]}, {"set": [{"concat": ["a", "b"]}]}), False),
        (match({"&": [header("ip", "frag-off"), 8191]}, 0, "!="), False),
        ({"counter": {"packets": 1, "bytes": 1}}, True),
        ({"log": {"prefix": "x"}}, True),
        ({"limit": {"rate": 10, "per": "second"}}, False),
        ({"xt": {"type": "match", "name": "conntrack"}}, False),
        ({"fib": {"result": "type", "flags": ["daddr"]}}, False),
    ],
)
def test_nft_question(question: dict[str, Any], asked: bool) -> None:
    """A rule drops all of the service's packets, or is about others, or cannot be told to be about all."""
    assert drops([question, DROP]) == asked


def test_reject_is_a_drop_also_as_an_iptables_target() -> None:
    assert drops([{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}])
    assert drops([{"reject": None}])
    assert drops([{"xt": {"type": "target", "name": "REJECT"}}])
    assert not drops([{"xt": {"type": "target", "name": "TCPMSS"}}])


def test_verdict_map_is_a_rule_for_each_element() -> None:
    elements = {"set": [["established", ACCEPT], ["untracked", DROP], ["invalid", DROP]]}
    assert drops([{"vmap": {"key": STATE, "data": elements}}])
    assert not drops([{"vmap": {"key": STATE, "data": {"set": [["invalid", DROP]]}}}])
    assert not drops([{"vmap": {"key": STATE, "data": "@verdicts"}}])


def test_jumps_come_back_and_gotos_do_not() -> None:
    back = (Rule((), "return"), Rule((), "drop"))
    assert walk(of([{"jump": {"target": "x"}}], [DROP], x=back), TO_NODE).dropped
    assert not walk(of([{"goto": {"target": "x"}}], [DROP], x=back), TO_NODE).dropped
    assert not walk(of([{"jump": {"target": "gone"}}]), TO_NODE).dropped


def test_chains_that_call_themselves_end() -> None:
    again = (Rule((), "jump", "x"),)
    assert not walk(of([{"jump": {"target": "x"}}], x=again), TO_NODE).dropped


def test_what_is_not_known_of_a_packet_answers_neither_question() -> None:
    assert not drops([match(meta("iifname"), "wan0"), DROP], ANYWHERE)
    assert not drops([match(meta("iifname"), "wan0", "!="), DROP], ANYWHERE)


def test_tables_of_one_family_see_no_packets_of_the_other() -> None:
    closed = Filter("chain ip6 f c", "ip6", "f", "c", "forward", "drop", {"c": ()})
    assert first_drop(closed, [TO_NODE, TO_CLIENT]) is None
    assert first_drop(closed, [TO_NODE, TO_NODE6]) == "its policy is drop"


def iptables(text: str) -> Filter:
    chains, policies = foreign_iptables.read(text)
    return Filter(
        "chain ip filter FORWARD",
        "ip",
        "filter",
        "FORWARD",
        "forward",
        policies["FORWARD"],
        chains,
        by_iptables="iptables-nft",
    )


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("-j DROP", True),
        ("-j REJECT --reject-with icmp-port-unreachable", True),
        ("-j LOG --log-prefix 'a DROP'", False),
        ("-p udp -j DROP", True),
        ("-p 17 -j DROP", True),
        ("-p tcp -m tcp --dport 5684 -j DROP", False),
        ("! -p tcp -j DROP", True),
        ("-p all -j DROP", True),
        ("-i wan0 ! -o docker0 -j DROP", True),
        ("-i docker+ -j DROP", False),
        ("! -i docker+ -j DROP", True),
        ("-d 10.0.0.0/24 -j DROP", True),
        ("-d 10.0.0.0/255.255.255.0 -j DROP", True),
        ("! -d 10.0.0.0/8 -j DROP", False),
        ("-s 198.51.100.0/24 -j DROP", False),
        ("-p udp -m udp --dport 5000:6000 -j DROP", True),
        ("-p udp -m multiport --dports 53,5684 -j DROP", True),
        ("-p udp -m multiport ! --dports 53,5684 -j DROP", False),
        ("-m conntrack --ctstate INVALID,UNTRACKED -j DROP", True),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP", True),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j DROP", False),
        ("-m state --state UNTRACKED -j DROP", True),
        ("-m set --match-set blocked src -j DROP", False),
        ("-m mark ! --mark 0x1 -j DROP", False),
        ("-m addrtype --dst-type LOCAL -j DROP", False),
        ('-m comment --comment "-j ACCEPT; it is said" -j DROP', True),
    ],
)
def test_iptables_question(rule: str, asked: bool) -> None:
    assert walk(iptables(f"-P FORWARD ACCEPT\n-A FORWARD {rule}\n"), TO_NODE).dropped == asked


def test_iptables_chains_policies_and_gotos() -> None:
    text = "-P FORWARD DROP\n-N a\n-N b\n-A FORWARD -j a\n-A FORWARD -j ACCEPT\n-A a {} b\n-A a -j DROP\n"
    assert walk(iptables(text.format("-j")), TO_NODE) == Outcome(True, "rule 2 of a drops them")
    assert not walk(iptables(text.format("-g")), TO_NODE).dropped
    assert walk(iptables("-P FORWARD DROP"), TO_NODE) == Outcome(True, "its policy is drop")


def test_line_to_add_is_in_the_words_of_who_made_the_chain() -> None:
    assert line_to_add(of(policy="drop")) == (
        "nft insert rule inet f c ct state untracked meta l4proto udp accept comment pointsman"
    )
    rule = "-p udp -m conntrack --ctstate UNTRACKED -m comment --comment pointsman -j ACCEPT"
    assert line_to_add(iptables("-P FORWARD DROP\n")) == f"iptables-nft -I FORWARD {rule}"
    docker = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n"
    assert line_to_add(iptables(docker)) == f"iptables-nft -I DOCKER-USER {rule}"


def test_the_line_that_is_offered_helps() -> None:
    offered = [
        match(STATE, "untracked", "in"),
        match(meta("l4proto"), "udp"),
        ACCEPT,
    ]
    assert first_drop(of(offered, policy="drop"), [TO_NODE, TO_CLIENT]) is None
    line = line_to_add(iptables("-P FORWARD DROP\n")).removeprefix("iptables-nft -I ")
    assert first_drop(iptables(f"-P FORWARD DROP\n-A {line}\n"), [TO_NODE, TO_CLIENT]) is None
