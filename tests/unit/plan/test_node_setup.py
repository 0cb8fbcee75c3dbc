"""What a node lacks to answer by itself, and the files that give it that at every boot; from values alone."""

from __future__ import annotations

import shlex
from dataclasses import replace
from ipaddress import ip_address

import pytest

from pointsman.config import parse
from pointsman.model import Service
from pointsman.plan.node_files import FORMATS, Format, exec_start, render
from pointsman.plan.node_setup import (
    NodeFacts,
    Setting,
    Tunnel,
    Wanted,
    dotted,
    missing,
    wanted_of,
)

TEXT = """
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "s"
protocol = "udp"
FORWARD
listen = ["192.0.2.10:53", "192.0.2.10:54", "[2001:db8::10]:53"]
[[service.node]]
name = "n1"
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
address = ["10.0.0.12", "fd00::12"]
"""
COMMAND = ["/opt/p 1/pointsman", "node-setup", "--apply", "/etc/g.toml", "s/n1"]
SOURCE = 'forward = "tunnel"\nsource = ["10.0.0.1", "fd00::1"]'
VIP, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
OWN, OWN6 = ip_address("10.0.0.11"), ip_address("fd00::11")
GATEWAY, GATEWAY6 = ip_address("10.0.0.1"), ip_address("fd00::1")


def service(forward: str = 'forward = "dsr"') -> Service:
    return parse(TEXT.replace("FORWARD", forward), "t.toml").gateway.services[0]


def wanted(forward: str = 'forward = "dsr"') -> Wanted:
    found = wanted_of(service(forward), service(forward).nodes[0])
    assert found is not None
    return found


BARE = NodeFacts(
    carried={OWN: frozenset({"eth0"}), OWN6: frozenset({"eth0"})},
    settings={"net/ipv4/conf/all/arp_ignore": "0", "net/ipv4/conf/all/arp_announce": "0"},
)
READY = NodeFacts(
    carried={**BARE.carried, VIP: frozenset({"lo"}), VIP6: frozenset({"lo"})},
    alone=frozenset({VIP, VIP6}),
    settings={"net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2"},
)


def test_nodes_of_other_modes_need_nothing() -> None:
    assert wanted_of(service(""), service("").nodes[0]) is None


def test_what_dsr_wants() -> None:
    assert wanted() == Wanted((VIP, VIP6), (OWN, OWN6))


@pytest.mark.parametrize(
    ("more", "port"),
    [("", 0), ('\nencapsulation = "gue"', 6080), ('\nencapsulation = "gue"\ngue_port = 7000', 7000)],
)
def test_what_tunnels_want(more: str, port: int) -> None:
    ends = {Tunnel(GATEWAY, OWN, VIP, port), Tunnel(GATEWAY6, OWN6, VIP6, port)}
    assert set(wanted(SOURCE + more).tunnels) == ends


def test_a_ready_node_lacks_nothing() -> None:
    assert missing(wanted(), READY).lines == []


def test_a_bare_node_lacks_all_of_it_in_a_line_each() -> None:
    assert missing(wanted(), BARE).lines == [
        "192.0.2.10 is not on lo: `ip address add 192.0.2.10/32 dev lo`",
        "2001:db8::10 is not on lo: `ip address add 2001:db8::10/128 dev lo nodad preferred_lft 0`",
        "net.ipv4.conf.all.arp_ignore is 0: the node answers ARP for the VIP on its links, and takes clients from "
        "the gateway; `sysctl -w net.ipv4.conf.all.arp_ignore=1`",
        "net.ipv4.conf.all.arp_announce is 0: the node names the VIP as sender when it asks for neighbours, and "
        "takes it from the gateway; `sysctl -w net.ipv4.conf.all.arp_announce=2`",
    ]


def test_a_larger_value_is_good_too() -> None:
    settings = {**READY.settings, "net/ipv4/conf/all/arp_ignore": "2"}
    assert missing(wanted(), replace(READY, settings=settings)).lines == []


def test_ipv6_alone_needs_no_settings_of_arp() -> None:
    only = replace(wanted(), vips=(VIP6,), own=(OWN6,))
    assert list(missing(only, BARE).settings) == []


@pytest.mark.parametrize(
    ("every", "own", "strict"),
    [("0", "0", False), ("1", "0", True), ("0", "1", True), ("1", "2", False), ("2", "1", False)],
)
def test_the_strict_reverse_path_filter_is_found_as_the_kernel_reads_it(
    every: str, own: str, *, strict: bool
) -> None:
    settings = {
        **READY.settings,
        "net/ipv4/conf/all/rp_filter": every,
        "net/ipv4/conf/eth0/rp_filter": own,
    }
    lacks = missing(wanted(), replace(READY, settings=settings))
    assert (Setting("net/ipv4/conf/eth0/rp_filter", "2") in lacks.settings) is strict


def test_names_of_interfaces_with_dots_are_written_as_sysctl_reads_them() -> None:
    assert dotted("net/ipv4/conf/eth0.7/rp_filter") == "net.ipv4.conf.eth0/7.rp_filter"


def test_the_vip_on_a_link_is_a_trouble_that_is_told_first() -> None:
    carried = {**READY.carried, VIP: frozenset({"lo", "eth0"})}
    (line,) = missing(wanted(), replace(READY, carried=carried)).lines
    assert line.startswith("192.0.2.10 is on eth0, where the machine answers for it")


def test_another_machine_is_told_that_it_is_not_the_node() -> None:
    lines = missing(wanted(), NodeFacts()).lines
    assert lines[0] == "no interface of this machine carries 10.0.0.11, the node's address: is this the node?"


def test_an_address_with_a_wider_prefix_is_not_the_one() -> None:
    assert VIP in missing(wanted(), replace(READY, alone=frozenset({VIP6}))).addresses


def test_ends_of_tunnels_are_found_by_interface() -> None:
    asked = wanted(SOURCE)
    lines = missing(asked, READY).lines
    assert [line.split(":")[0] for line in lines] == [
        "eth0 does not take off IPIP from 10.0.0.1 for 192.0.2.10",
        "eth0 does not take off IP6IP6 from fd00",
    ]
    there = replace(READY, tunnels={"eth0": frozenset(asked.tunnels)})
    assert missing(asked, there).lines == []
    elsewhere = replace(READY, tunnels={"eth1": frozenset(asked.tunnels)})
    assert len(missing(asked, elsewhere).lines) == 2


def test_files_for_networkd() -> None:
    text = render(wanted(SOURCE), READY, "networkd", COMMAND)
    assert "[Address]\nAddress=192.0.2.10/32\n" in text
    assert "Address=2001:db8::10/128\nPreferredLifetime=0\nDuplicateAddressDetection=none\n" in text
    assert 'ExecStart="/opt/p 1/pointsman" "node-setup" "--apply" "/etc/g.toml" "s/n1"\n' in text
    assert "net.ipv4.conf.all.arp_ignore = 1\nnet.ipv4.conf.all.arp_announce = 2\n" in text


def test_files_for_ifupdown() -> None:
    text = render(wanted(), READY, "ifupdown", COMMAND)
    assert "    up ip address add 192.0.2.10/32 dev lo || true\n" in text
    assert "    up ip address add 2001:db8::10/128 dev lo nodad preferred_lft 0 || true\n" in text
    assert "pointsman node-setup" not in text
    text = render(wanted(SOURCE), READY, "ifupdown", COMMAND)
    assert "#   up '/opt/p 1/pointsman' node-setup --apply /etc/g.toml s/n1\n" in text


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/etc/a b.toml", '"/etc/a b.toml"'),
        ("/etc/100%.toml", '"/etc/100%%.toml"'),
        ("/etc/$HOME.toml", '"/etc/$$HOME.toml"'),
        ("/etc/a\"b'c.toml", '"/etc/a\\"b\'c.toml"'),
        ("/etc/a\\n.toml", '"/etc/a\\\\n.toml"'),
        ("/etc/ä;#.toml", '"/etc/ä;#.toml"'),
    ],
)
def test_a_files_path_is_one_word_to_systemd_and_to_the_shell(path: str, quoted: str) -> None:
    assert exec_start(["/bin/$a%b", path]) == f'"/bin/$a%%b" {quoted}'
    command = [*COMMAND[:3], path, COMMAND[4]]
    for line in render(wanted(SOURCE), READY, "ifupdown", command).splitlines():
        if line.startswith("#   up "):
            assert shlex.split(line.removeprefix("#   up ")) == command


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bad", "\n\r\t\x1b\x7f\x85\u2028")
def test_control_characters_are_refused_in_one_line(form: Format, bad: str) -> None:
    with pytest.raises(ValueError, match="has control characters") as refused:
        render(wanted(SOURCE), READY, form, [*COMMAND[:3], f"/etc/a{bad}.toml", COMMAND[4]])
    assert str(refused.value).isprintable()


def test_files_for_sysctl_alone() -> None:
    assert render(wanted(), READY, "sysctl", COMMAND) == (
        "# /etc/sysctl.d/60-pointsman-node.conf\n"
        "net.ipv4.conf.all.arp_ignore = 1\n"
        "net.ipv4.conf.all.arp_announce = 2\n"
        "net.ipv4.conf.eth0.rp_filter = 2\n"
    )
