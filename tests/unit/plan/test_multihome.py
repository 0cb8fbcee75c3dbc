"""Routes, rules and the table of multihomed servers, and what is found in their way."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from tests.unit.plan.xdp import btf

from pointsman.config import parse
from pointsman.model import Family, Gateway, PortRange
from pointsman.plan.multihome import (
    ForeignRule,
    LinkFacts,
    MultihomeFacts,
    Route,
    compile_multihome,
    numbered,
)
from pointsman.plan.multihome_abi import ASKED, PEER, PORT_WORDS, PROGRAMS, UPLINK, port_words
from pointsman.plan.multihome_findings import found_about

ROOT = Path(__file__).parents[3]
OBJECT = ROOT / "src/pointsman/programs/multihome.bpf.o"
BY_ADDRESS = """\
[gateway]
name = "g"
hash_seed = 1
[[multihome]]
name = "dns"
mode = "address"
address = "10.255.0.53"
ports = [53, "6000-6010"]
  [[multihome.uplink]]
  interface = "up0"
  gateway = ["192.0.2.1", "fe80::1"]
  [[multihome.uplink]]
  interface = "up1"
  address = "198.51.100.0/24"
"""
BY_SOCKET = BY_ADDRESS.replace('"address"\naddress = "10.255.0.53"', '"socket"\nunit = "dns.slice"')
UP0 = LinkFacts(True, (ip_interface("192.0.2.2/28"), ip_interface("2001:db8::2/64")))
UP1 = LinkFacts(True, (ip_interface("198.51.100.9/32"),), (ip_address("198.51.100.1"),))
LINKS = {"up0": UP0, "up1": UP1}


def gateway(text: str) -> Gateway:
    return parse(text, "g").gateway


def routes(text: str, links: dict[str, LinkFacts], family: Family = Family.V4) -> list[str]:
    return [
        " ".join(own.words()).partition(" table ")[0] + f" {own.table}"
        for own in compile_multihome(gateway(text), links).routes
        if own.family is family
    ]


def rules(text: str) -> list[str]:
    return [
        f"{own.priority}: {' '.join((*own.selector, *own.action))}"
        for own in compile_multihome(gateway(text), LINKS).rules
        if own.family is Family.V4
    ]


def test_each_uplink_has_its_networks_its_router_and_no_other_way() -> None:
    assert routes(BY_ADDRESS, LINKS) == [
        "192.0.2.0/28 dev up0 7700",
        "default via 192.0.2.1 onlink dev up0 7700",
        "unreachable default metric 4000000000 7700",
        "default via 198.51.100.1 onlink dev up1 7701",
        "unreachable default metric 4000000000 7701",
    ]
    assert "default via fe80::1 onlink dev up0 7700" in routes(BY_ADDRESS, LINKS, Family.V6)


def test_an_uplink_that_is_down_or_gone_reaches_nothing() -> None:
    blocked = ["unreachable default metric 4000000000 7700", "unreachable default metric 4000000000 7701"]
    assert routes(BY_ADDRESS, {}) == blocked
    assert routes(BY_ADDRESS, {"up0": LinkFacts(False, UP0.addresses)}) == blocked


def test_answers_go_by_mark_where_the_server_has_an_address() -> None:
    assert rules(BY_ADDRESS) == [
        "7800: fwmark 0x10000/0xff0000 lookup 7700",
        "7801: fwmark 0x20000/0xff0000 lookup 7701",
    ]


def test_answers_go_by_source_where_the_server_has_every_address() -> None:
    ports = ("ipproto udp sport 53", "ipproto udp sport 6000-6010")
    wanted = []
    for own in ports:
        wanted += [
            f"7700: from 192.0.2.2/32 {own} lookup main suppress_prefixlength 0",
            f"7800: from 192.0.2.2/32 {own} lookup 7700",
            f"7800: oif up0 {own} lookup 7700",
        ]
    for own in ports:
        wanted += [
            f"7701: from 198.51.100.0/24 {own} lookup main suppress_prefixlength 0",
            f"7801: from 198.51.100.0/24 {own} lookup 7701",
            f"7801: oif up1 {own} lookup 7701",
        ]
    assert rules(BY_SOCKET) == wanted
    (attachment,) = compile_multihome(gateway(BY_SOCKET), LINKS).attachments
    assert (attachment.cgroup, attachment.uplinks) == ("dns.slice", ("up0", "up1"))


def test_the_table_is_there_for_servers_with_an_address_alone() -> None:
    body = compile_multihome(gateway(BY_ADDRESS), LINKS).body
    assert compile_multihome(gateway(BY_SOCKET), LINKS).body == ""
    assert 'iifname "up0" meta nfproto ipv4 fib daddr type local udp dport { 53, 6000-6010 }' in body
    assert 'iifname "up1" meta nfproto ipv4 ip daddr { 198.51.100.0/24 } fib daddr type local' in body
    assert "ipv6" not in body
    assert "ct mark set ct mark & 0xff00ffff | 0x00020000 dnat ip to 10.255.0.53" in body


def test_marks_fill_the_mask_from_its_lowest_bit() -> None:
    text = BY_ADDRESS.replace("ports =", "mark_mask = 0xc0\nports =")
    assert [each.mark for each in numbered(gateway(text))] == [0x40, 0x80]


def test_ip_takes_a_route_as_it_is_said() -> None:
    said = " ".join(Route(Family.V4, 7700).words())
    assert said == "unreachable default metric 4000000000 table 7700 proto 177"


def found(text: str, facts: MultihomeFacts) -> list[tuple[str, bool]]:
    return list(found_about(gateway(text), facts, {ip_address("10.255.0.53"): "lo"}))


def test_all_is_well() -> None:
    assert found(BY_ADDRESS, MultihomeFacts(LINKS)) == []


@pytest.mark.parametrize(
    ("mark", "mask", "fatal"),
    [
        (0x10000, 0xFFFF0000, True),
        (0xCA6C, 0xFFFFFFFF, False),  # a number of others, without a bit of ours
        (0x2CA6C, 0xFFFFFFFF, True),
        (0x1, 0xFF, False),
        (0, 0, False),
    ],
)
def test_bits_that_others_rules_ask_for_are_refused(mark: int, mask: int, fatal: bool) -> None:
    told = found(BY_ADDRESS, MultihomeFacts(LINKS, (ForeignRule(Family.V4, 900, mark, mask),)))
    assert [one for _, one in told] == ([True] if fatal else [])


def test_what_is_missing_is_told() -> None:
    facts = MultihomeFacts({"up0": LinkFacts(False)}, (), frozenset({7701}), frozenset(), frozenset())
    lines = [f"{'fatal ' if fatal else ''}{line}" for line, fatal in found(BY_ADDRESS, facts)]
    assert len(lines) == 4
    assert "no default route for IPv4" in lines[0]
    assert "uplink up0: the interface is down" in lines[1]
    assert "there is no interface up1" in lines[2]
    assert lines[3].startswith("fatal multihome: routing table 7701 has routes of others")
    (line, fatal), *_ = found(BY_SOCKET, facts)
    assert (line, fatal) == (
        "multihome dns: there is no control group dns.slice; start the server first",
        True,
    )


def test_ports_are_bits() -> None:
    words = port_words([PortRange(53, 53), PortRange(63, 65), PortRange(65535, 65535)])
    assert len(words) == PORT_WORDS
    assert int.from_bytes(words[0], "little") == 1 << 53 | 1 << 63
    assert int.from_bytes(words[1], "little") == 0b11
    assert int.from_bytes(words[-1], "little") == 1 << 63


@pytest.mark.skipif(not OBJECT.exists(), reason="`make programs` has not been run")
def test_structs_lie_as_the_compiler_has_laid_them_out() -> None:
    types = btf.read(OBJECT)
    assert types.struct("peer") == (PEER.size, {"address": (0, 16), "port": (16, 2), "local_port": (18, 2)})
    assert types.struct("asked") == (ASKED.size, {"address": (0, 16), "interface": (16, 4)})
    assert types.struct("uplink") == (UPLINK.size, {"name": (0, 16)})


def test_programs_and_sizes_are_those_of_the_source() -> None:
    source = (ROOT / "bpf/multihome.bpf.c").read_text()
    assert set(re.findall(r"^int (\w+)\(", source, re.MULTILINE)) == set(PROGRAMS)
    header = (ROOT / "bpf/multihome.h").read_text()
    assert re.search(r"#define PORT_WORDS (\d+)", header)[1] == str(PORT_WORDS)  # type: ignore[index]
