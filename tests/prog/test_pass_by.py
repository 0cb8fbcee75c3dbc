"""What the programs make of frames for nodes that answer by themselves: by their link, or within another header."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet
from tests.prog import sums
from tests.prog.frames import ETHER, icmp_error, ipv4, ipv6, mac, packed, tcp, udp
from tests.prog.rig import (
    CLIENT,
    COAPS,
    DROP,
    LAN_MAC,
    NODES,
    NOWHERE,
    PASS,
    REDIRECT,
    TX,
    UNRESOLVED,
    VIP,
    Ran,
    Rig,
    node_of,
)
from tests.prog.test_paths import (
    FINISH,
    HELLO,
    ROUTER,
    TOO_BIG,
    about,
    asked,
    error_of,
    fragments,
    framed,
    network,
    record,
)

from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi

pytestmark = pytest.mark.netns

GATEWAY = {4: "10.0.0.1", 6: "fd00::1"}
DSR = (
    COAPS.replace('protocol = "dtls"', 'protocol = "dtls"\nforward = "dsr"')
    .replace("10.0.0.12:15684", "10.0.0.12")
    .replace("[fd00::12]:15684", "fd00::12")
)
WEB = """
[[service]]
name = "web"
protocol = "tcp"
forward = "dsr"
listen = ["192.0.2.10:80", "[2001:db8::10]:80"]
[[service.node]]
name = "n1"
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
address = ["10.0.0.12", "fd00::12"]
"""
SOURCE = 'forward = "tunnel"\nsource = ["10.0.0.1", "fd00::1"]'
IPIP = DSR.replace('forward = "dsr"', SOURCE)
GUE = DSR.replace('forward = "dsr"', SOURCE + '\nencapsulation = "gue"\ngue_port = 6081')
CLAMP = DSR + WEB.replace('forward = "dsr"', SOURCE + "\nmss_clamp = true")
OUTER = {"dsr": {4: 0, 6: 0}, "ipip": {4: 20, 6: 40}, "gue": {4: 28, 6: 48}}
HOW = {"dsr": DSR, "ipip": IPIP, "gue": GUE}
NARROW = ('"10.0.0.11", "fd00::11"', '"10.3.0.11", "fd03::11"')


@pytest.fixture(params=["dsr", "ipip", "gue"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parsed(packet: bytes, family: int) -> Packet:
    return IP(packet) if family == 4 else IPv6(packet)


def right(packet: bytes, family: int) -> bool:
    """Whether scapy, which makes all checksums and lengths anew, comes to the same bytes."""
    anew = parsed(packet, family)
    layer: Packet | None = anew
    while layer:
        for name in ("chksum", "len", "plen"):
            kept_zero = isinstance(layer, UDP) and name == "chksum" and layer.chksum == 0
            if name in layer.fields and not kept_zero:
                layer.delfieldval(name)
        layer = layer.payload
    return bytes(anew) == packet


def inner_of(ran: Ran, how: str, family: int) -> bytes:
    """The packet as the node has it once it took off what was put before it; the outer header must be right."""
    packet = sums.behind_link(ran.frame)[1]
    if how == "dsr":
        return packet
    outer = parsed(packet, family)
    inner = packet[OUTER[how][family] :]
    assert (outer.src, outer.dst) == (GATEWAY[family], NODES[family][str(node_of(ran.frame))])
    assert (outer.ttl if family == 4 else outer.hlim) == 64
    if family == 4:
        assert not sums.total(packet[:20])
        assert outer.flags == "DF"
        assert outer.len == len(packet)
    else:
        assert outer.plen == len(packet) - 40
    protocol = outer.proto if family == 4 else outer.nh
    if how == "ipip":
        assert protocol == {4: 4, 6: 41}[family]
    else:
        header = packet[len(packet) - len(inner) - 8 :][:8]
        assert protocol == 17
        assert header[2:4] == (6081).to_bytes(2, "big")
        assert int.from_bytes(header[:2], "big") >= 0xC000
        assert int.from_bytes(header[4:6], "big") == len(inner) + 8
        assert header[6:] == bytes(2)
    return inner


def kept(inner: bytes, frame: bytes, family: int) -> bool:
    """Whether only the hop limit fell by one (and the header's checksum with it)."""
    was = bytearray(sums.behind_link(frame)[1])
    at = 8 if family == 4 else 7
    was[at] -= 1
    if family == 4:
        was[10:12] = inner[10:12]
    return bytes(was) == inner


def syn(family: int, port: int, options: bytes = b"", flags: str = "S", to: int = 80) -> bytes:
    client, vip = CLIENT[family], VIP[family]
    head = IP(src=client, dst=vip) if family == 4 else IPv6(src=client, dst=vip)
    made = bytes(head / TCP(sport=port, dport=to, flags=flags))
    cut = 20 if family == 4 else 40
    segment = bytearray(made[cut:] + options)
    segment[12] = (20 + len(options)) // 4 << 4
    segment[16:18] = bytes(2)
    pseudo = packed(client) + packed(vip) + len(segment).to_bytes(4, "big") + (6).to_bytes(4, "big")
    segment[16:18] = (0xFFFF - sums.total(pseudo, bytes(segment))).to_bytes(2, "big")
    return framed(family, network(family, packed(client), packed(vip), bytes(segment), protocol=6))


def test_only_the_link_and_the_hop_limit_change(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    for frame, verdict in (
        (asked(family, record(b"\2abcde")), Verdict.CID),
        (asked(family, HELLO), Verdict.BALANCED),
        (asked(family, FINISH), Verdict.FLOW),
    ):
        ran = gateway.run(frame)
        assert (ran.action, ran.verdicts) == (REDIRECT, {verdict})
        inner = inner_of(ran, how, family)
        assert kept(inner, frame, family)
        assert right(inner, family)
        assert ran.frame[6:12] == mac(LAN_MAC)
    assert node_of(gateway.run(asked(family, record(b"\2abcde"))).frame) == "n2"


def test_it_is_the_same_node_as_with_nat(gateway: Rig, family: int, how: str) -> None:
    def nodes() -> list[str | None]:
        return [node_of(gateway.run(asked(family, HELLO, port)).frame) for port in range(2000, 2060)]

    by_nat = nodes()
    gateway.configure(HOW[how])
    assert nodes() == by_nat


def test_states_mean_the_same(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    was = str(node_of(gateway.run(asked(family, HELLO)).frame))
    gateway.change(HOW[how], states={("coaps", was): NodeState.DRAINING})
    assert node_of(gateway.run(asked(family, FINISH)).frame) == was
    assert node_of(gateway.run(asked(family, HELLO)).frame) != was
    gateway.change(HOW[how], states={("coaps", "n2"): NodeState.DOWN})
    assert gateway.run(asked(family, record(b"\2abcde"))).verdicts == {Verdict.CID_NODE_DOWN}


def test_what_nodes_send_is_not_ours(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    own, client = packed(NODES[family]["n1"]), packed(CLIENT[family])
    frame = framed(family, network(family, own, client, udp(own, client, (5684, 40000), b"x")), LAN_MAC)
    ran = gateway.run(frame, "lan")
    assert (ran.action, ran.frame, ran.verdicts) == (PASS, frame, set())


def test_from_nat_to_passing_by_and_back(gateway: Rig, family: int, how: str) -> None:
    own, client = packed(NODES[family]["n1"]), packed(CLIENT[family])
    answer = framed(family, network(family, own, client, udp(own, client, (5684, 40000), b"x")), LAN_MAC)
    frame = asked(family, record(b"\1abcde"))
    for text, name in ((HOW[how], how), (COAPS, "nat"), (HOW[how], how)):
        gateway.change(text)
        ran = gateway.run(frame)
        assert ran.verdicts == {Verdict.CID}
        if name != "nat":
            assert kept(inner_of(ran, how, family), frame, family)
        assert (gateway.run(answer, "lan").action == PASS) is (name != "nat")


def test_later_fragments_follow_the_first(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    frames = fragments(family, record(b"\2abcde") + bytes(1500))
    ran = [gateway.run(frame) for frame in frames]
    assert [each.verdicts for each in ran] == [{Verdict.CID}, {Verdict.FRAGMENT}, {Verdict.FRAGMENT}]
    assert {node_of(each.frame) for each in ran} == {"n2"}
    for frame, each in zip(frames, ran, strict=True):
        assert kept(inner_of(each, how, family), frame, family)
    assert gateway.run(frames[1]).verdicts == {Verdict.FRAGMENT}
    gateway.configure(HOW[how])
    assert gateway.run(frames[1]).verdicts == {Verdict.FRAGMENT_LOST}


def test_too_big_is_answered_with_what_fits(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how].replace(*NARROW, 1))
    room = 1400 - OUTER[how][family]
    whole = record(b"\1abcde") + bytes(2000)
    header = 28 if family == 4 else 48
    assert gateway.run(asked(family, whole[: room - header])).action == REDIRECT
    ran = gateway.run(asked(family, whole[: room + 1 - header]))
    assert (ran.action, ran.verdicts) == (TX, {Verdict.TOO_BIG})
    assert error_of(ran) == {4: (3, 4, room), 6: (2, 0, room)}[family]
    assert not sums.wrong(ran.frame)


def test_what_may_be_fragmented_is_answered_too(gateway: Rig, how: str) -> None:
    """The kernel, which cuts up what goes to translated nodes, has the VIP itself."""
    gateway.configure(HOW[how].replace(*NARROW, 1))
    client, vip = packed(CLIENT[4]), packed(VIP[4])
    packet = ipv4(client, vip, udp(client, vip, (40000, 5684), record(b"\1abcde") + bytes(1400)))
    ran = gateway.run(framed(4, packet))
    assert (ran.action, ran.verdicts) == (TX, {Verdict.TOO_BIG})


@pytest.mark.parametrize("limit", [0, 1])
def test_an_ended_hop_limit_is_answered(gateway: Rig, family: int, how: str, limit: int) -> None:
    gateway.configure(HOW[how])
    ran = gateway.run(asked(family, record(b"\1abcde"), limit=limit))
    assert (ran.action, ran.verdicts) == (TX, {Verdict.HOP_LIMIT})
    assert not sums.wrong(ran.frame)


def test_an_unknown_neighbour_is_asked_for_by_name(gateway: Rig, family: int, how: str) -> None:
    text = HOW[how].replace('"10.0.0.11", "fd00::11"', f'"{UNRESOLVED[4]}", "{UNRESOLVED[6]}"', 1)
    gateway.configure(text)
    gateway.ports(abi.PortFlag.NATIVE)
    frame = asked(family, record(b"\1abcde"))
    ran = gateway.run(frame)
    assert (ran.action, ran.verdicts) == (PASS, {Verdict.CID, Verdict.BY_KERNEL})
    assert int.from_bytes(ran.meta[4:8], "little") == gateway.namespace.index["lan"]
    assert ran.frame[:14] == frame[:14]
    if how == "dsr":
        assert ran.meta[8:24] == abi.wire_address(ip_address(UNRESOLVED[family]))
    else:
        assert ran.meta[8:24] == bytes(16)
        assert parsed(sums.behind_link(ran.frame)[1], family).dst == UNRESOLVED[family]


def test_without_metadata_it_is_dropped_and_never_the_kernels(gateway: Rig, family: int, how: str) -> None:
    text = HOW[how].replace('"10.0.0.11", "fd00::11"', f'"{NOWHERE[4]}", "{NOWHERE[6]}"', 1)
    gateway.configure(text)
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.NO_ROUTE})


def test_tags_come_off(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    frame = asked(family, record(b"\2abcde"))
    for tag in (b"\x81\0\0\7", b"\x81\0\xe0\0"):
        ran = gateway.run(frame[:12] + tag + frame[12:])
        assert ran.action == REDIRECT
        assert ran.frame[12:14] == ETHER[family].to_bytes(2, "big")
        assert kept(inner_of(ran, how, family), frame, family)


def test_tags_go_on(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how].replace('"10.0.0.11", "fd00::11"', '"10.7.0.11", "fd07::11"', 1))
    frame = asked(family, record(b"\1abcde"))
    ran = gateway.run(frame)
    assert ran.action == TX
    assert ran.frame[12:18] == b"\x81\0\0\7" + ETHER[family].to_bytes(2, "big")
    assert kept(sums.behind_link(ran.frame)[1][OUTER[how][family] :], frame, family)


def test_the_class_and_congestion_marks_go_outside(gateway: Rig, family: int) -> None:
    gateway.configure(IPIP)
    frame = bytearray(asked(family, record(b"\1abcde")))
    if family == 4:
        client, vip = packed(CLIENT[4]), packed(VIP[4])
        packet = ipv4(client, vip, udp(client, vip, (40000, 5684), record(b"\1abcde")), tos=0xBA)
        frame = bytearray(framed(4, packet))
    else:
        frame[14:16] = b"\x6b\xa1"
    packet = sums.behind_link(gateway.run(bytes(frame)).frame)[1]
    assert (packet[1] if family == 4 else packet[0] << 4 & 0xF0 | packet[1] >> 4) == 0xBA


def test_flows_have_outer_ports_of_their_own(gateway: Rig, family: int) -> None:
    gateway.configure(GUE)
    at = 14 + (20 if family == 4 else 40)

    def port(client_port: int, payload: bytes) -> bytes:
        return gateway.run(asked(family, payload, client_port)).frame[at : at + 2]

    for payload in (HELLO, record(b"\1abcde")):
        found = {port(number, payload) for number in range(2000, 2100)}
        assert len(found) > 90
        assert port(2000, payload) == port(2000, payload)


# ICMP


def test_an_error_about_a_nodes_answer_reaches_it_as_it_is(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    for payload in (HELLO, record(b"\3abcde")):
        was = node_of(gateway.run(asked(family, payload)).frame)
        vip, client = packed(VIP[family]), packed(CLIENT[family])
        left = framed(family, network(family, vip, client, udp(vip, client, (5684, 40000), bytes(600))))
        frame = framed(family, about(family, TOO_BIG[family], left, ROUTER[family]))
        ran = gateway.run(frame)
        assert (ran.action, ran.verdicts) == (REDIRECT, {Verdict.ICMP_ERROR})
        assert node_of(ran.frame) == was
        assert kept(inner_of(ran, how, family), frame, family)
        gateway.configure(HOW[how])
        assert gateway.run(frame).verdicts == {Verdict.ICMP_UNKNOWN}


# TCP


def segment(family: int, flags: int, port: int = 40000, payload: bytes = b"") -> bytes:
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    made = tcp(client, vip, (port, 80), payload, flags)
    return framed(family, network(family, client, vip, made, protocol=6))


def classes(gateway: Rig) -> list[int]:
    """What is known of every flow that is remembered: 0 new, 1 answered, 2 closing."""
    view = memoryview(gateway.maps.views["flows"]).cast("Q")
    found = [entry >> 22 & 3 for entry in view if entry]
    view.release()
    return found


def test_a_connection_is_one_once_the_client_goes_on(gateway: Rig, family: int) -> None:
    """Answers are not seen, so nothing but the client's own acknowledgement tells of them."""
    gateway.configure(DSR + WEB)
    for flags, known in ((0x02, 0), (0x02, 0), (0x10, 1), (0x18, 1), (0x11, 2), (0x10, 2)):
        ran = gateway.run(segment(family, flags))
        assert ran.action == REDIRECT
        assert classes(gateway) == [known]


def test_a_new_connection_from_the_same_port_begins_anew(gateway: Rig, family: int) -> None:
    gateway.configure(DSR + WEB)
    for flags, known in ((0x02, 0), (0x10, 1), (0x04, 2), (0x02, 0), (0x10, 1)):
        gateway.run(segment(family, flags))
        assert classes(gateway) == [known]


# segment sizes


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", b""),
        (b"\1\1", b"\1\1"),
        (b"\1", b"\3\3\7"),
        (b"\4\2\1", b"\0"),
        (b"\x08\x0a" + bytes(8), b"\1\1"),
    ],
)
def test_a_syn_asks_for_segments_that_fit(gateway: Rig, family: int, before: bytes, behind: bytes) -> None:
    gateway.configure(CLAMP)
    fits = 1500 - OUTER["ipip"][family] - (40 if family == 4 else 60)
    for size in (1460, fits + 1, fits, 536):
        options = before + b"\2\4" + size.to_bytes(2, "big") + behind
        ran = gateway.run(syn(family, 2000, options))
        inner = inner_of(ran, "ipip", family)
        assert right(inner, family)
        assert not sums.wrong(b"\0" * 12 + ETHER[family].to_bytes(2, "big") + inner)
        at = (20 if family == 4 else 40) + 20 + len(before) + 2
        assert int.from_bytes(inner[at : at + 2], "big") == min(size, fits)


@pytest.mark.parametrize(
    "options", [b"", b"\2\4\5", b"\2\5\5\xb4\0", b"\1" * 40, b"\3\0\2\4\5\xb4\0\0", b"\0\0\0\0\2\4\5\xb4"]
)
def test_a_syn_without_a_size_stays_as_it_is(gateway: Rig, family: int, options: bytes) -> None:
    gateway.configure(CLAMP)
    options += bytes(-len(options) % 4)
    frame = syn(family, 2000, options)
    assert kept(inner_of(gateway.run(frame), "ipip", family), frame, family)


def test_other_segments_and_services_without_it_stay_as_they_are(gateway: Rig, family: int) -> None:
    gateway.configure(CLAMP)
    option = b"\2\4\5\xb4"
    frame = syn(family, 2000, option, "A")
    assert kept(inner_of(gateway.run(frame), "ipip", family), frame, family)
    gateway.configure(DSR + WEB)
    frame = syn(family, 2000, option)
    assert kept(inner_of(gateway.run(frame), "dsr", family), frame, family)


def test_icmp_that_is_none_of_ours_is_the_kernels(gateway: Rig, family: int, how: str) -> None:
    gateway.configure(HOW[how])
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    body = icmp_error(client, vip, {4: 8, 6: 128}[family], 0, b"ping")
    packet = ipv4(client, vip, body, protocol=1) if family == 4 else ipv6(client, vip, body, protocol=58)
    ran = gateway.run(framed(family, packet))
    assert (ran.action, ran.verdicts) == (PASS, set())
