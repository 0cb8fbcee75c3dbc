"""What the XDP programs make of single frames, by BPF_PROG_TEST_RUN: every path there is."""

from __future__ import annotations

import pytest
from tests.prog import sums
from tests.prog.frames import ETHER, icmp_error, ipv4, ipv6, mac, packed, tcp, udp
from tests.prog.rig import (
    CLIENT,
    COAPS,
    DROP,
    LAN_MAC,
    NODE_MACS,
    NODES,
    NOWHERE,
    PASS,
    REDIRECT,
    ROUTER_MAC,
    TX,
    UNRESOLVED,
    VIP,
    VLAN,
    WAN_MAC,
    Ran,
    Rig,
    node_of,
)

from pointsman.kernel.bpf import RingBuffer
from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi

pytestmark = pytest.mark.netns

HELLO = b"\x16\xfe\xfd\0\0" + bytes(6) + b"\0\x15" + b"\1\0\0\x09\0\0" + bytes(15)
FINISH = b"\x16\xfe\xfd\0\0" + bytes(6) + b"\0\x15" + b"\x10\0\0\x09\0\2" + bytes(15)
DATA = b"\x17\xfe\xfd\0\1" + bytes(20)
N3 = '[[service.node]]\nname = "n3"'
PLAIN = '[[service]]\nname = "plain"'
BALANCE = COAPS.replace("length = 6 }", 'length = 6 }\ncid_unknown = "balance"\ncid_node_down = "balance"')
N1_DOWN = {("coaps", "n1"): NodeState.DOWN}
ALL_DOWN = {("coaps", name): NodeState.DOWN for name in NODE_MACS}


def record(cid: bytes) -> bytes:
    return b"\x19\xfe\xfd" + bytes(8) + cid + b"\0\4abcd"


def network(
    family: int, source: bytes, destination: bytes, rest: bytes, protocol: int = 17, limit: int = 64
) -> bytes:
    if family == 4:
        return ipv4(source, destination, rest, protocol=protocol, ttl=limit, part=0x4000)
    return ipv6(source, destination, rest, protocol=protocol, hops=limit)


def framed(family: int, packet: bytes, to: str = WAN_MAC, source: str = ROUTER_MAC) -> bytes:
    return mac(to) + mac(source) + ETHER[family].to_bytes(2, "big") + packet


def asked(family: int, payload: bytes, port: int = 40000, listener: int = 5684, limit: int = 64) -> bytes:
    """A client's datagram to the VIP."""
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    return framed(
        family, network(family, client, vip, udp(client, vip, (port, listener), payload), limit=limit)
    )


def answered(family: int, node: str, payload: bytes = DATA, port: int = 40000, limit: int = 64) -> bytes:
    """A node's datagram to the client."""
    own, client = packed(NODES[family][node]), packed(CLIENT[family])
    segment = udp(own, client, (15684 if node == "n2" else 5684, port), payload)
    return framed(family, network(family, own, client, segment, limit=limit), LAN_MAC, NODE_MACS[node])


def read(ran: Ran) -> sums.Datagram:
    found = sums.datagram(sums.behind_link(ran.frame)[1])
    assert found is not None
    return found


def sent_to_node(ran: Ran) -> str | None:
    """The node that a frame went to; every checksum of it must be right."""
    assert ran.action == REDIRECT, ran
    assert not sums.wrong(ran.frame)
    assert ran.frame[6:12] == mac(LAN_MAC)
    return node_of(ran.frame)


def untouched(ran: Ran, frame: bytes) -> bool:
    return ran.action == PASS and ran.frame == frame and not ran.counted


# connection IDs


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 16, 24, 31, 32])
@pytest.mark.parametrize("offset", [0, 1, 5, 7, 8, 13, 64])
def test_a_node_id_is_read_from_any_bits(gateway: Rig, family: int, offset: int, bits: int) -> None:
    wanted = f"{{ offset = {offset}, bits = {bits}, length = 13 }}"
    ids = [1, 0] if bits == 1 else [(1 << bits) - 1, 1, (1 << bits) - 2]
    text = COAPS.replace("{ offset = 0, bits = 8, length = 6 }", wanted)
    for number, own in enumerate(ids, 1):
        text = text.replace(f"\nid = {number}\n", f"\nid = _{own}\n", 1)
    text = text.replace("id = _", "id = ")
    if bits == 1:
        text = text[: text.index(N3)] + text[text.index(PLAIN) :]
    gateway.configure(text)
    for number, own in enumerate(ids, 1):
        behind, ones = 104 - offset - bits, (1 << bits) - 1
        cid = ((((1 << 104) - 1) ^ ones << behind) | own << behind).to_bytes(13, "big")
        ran = gateway.run(asked(family, record(cid)))
        assert ran.verdicts == {Verdict.CID}
        assert sent_to_node(ran) == f"n{number}"


def test_port_address_hop_limit_and_checksums_change_and_nothing_else(gateway: Rig, family: int) -> None:
    frame = asked(family, record(b"\2abcde"))
    ran = gateway.run(frame)
    packet = read(ran)
    assert sent_to_node(ran) == "n2"
    assert (packet.destination, packet.ports) == (packed(NODES[family]["n2"]), (40000, 15684))
    assert (packet.hop_limit, packet.rest[8:]) == (63, record(b"\2abcde"))
    assert packet.source == packed(CLIENT[family])


def test_an_unknown_id_is_dropped_and_counted(gateway: Rig, family: int) -> None:
    ran = gateway.run(asked(family, record(b"\7abcde")))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.CID_UNKNOWN})


def test_an_unknown_id_is_balanced_where_the_service_says_so(gateway: Rig, family: int) -> None:
    gateway.configure(BALANCE)
    ran = gateway.run(asked(family, record(b"\7abcde")))
    assert sent_to_node(ran)
    assert ran.verdicts == {Verdict.CID_UNKNOWN, Verdict.BALANCED}


def test_a_record_for_a_node_that_is_down_is_dropped_or_balanced(gateway: Rig, family: int) -> None:
    gateway.configure(states=N1_DOWN)
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.CID_NODE_DOWN})
    gateway.configure(BALANCE, N1_DOWN)
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert sent_to_node(ran) in ("n2", "n3")
    assert ran.verdicts == {Verdict.CID_NODE_DOWN, Verdict.BALANCED}


def test_a_draining_node_takes_records(gateway: Rig, family: int) -> None:
    gateway.configure(states={("coaps", "n1"): NodeState.DRAINING})
    assert sent_to_node(gateway.run(asked(family, record(b"\1abcde")))) == "n1"


@pytest.mark.parametrize("length", range(3, 12))
def test_a_record_that_ends_before_its_id_is_unknown_whatever_pads_the_frame(
    gateway: Rig, family: int, length: int
) -> None:
    frame = asked(family, record(b"\1abcde")[:length])
    for padding in (b"", b"\1" * 18, b"\1" * 200):
        ran = gateway.run(frame + padding)
        assert (ran.action, ran.verdicts) == (DROP, {Verdict.CID_UNKNOWN})


def test_padding_is_no_record(gateway: Rig, family: int) -> None:
    ran = gateway.run(asked(family, b"\x19\xfe") + b"\xfd" + bytes(8) + b"\1abcdefgh")
    assert ran.verdicts == {Verdict.BALANCED}


def test_a_shorter_record_than_its_node_id_is_read_to_the_last_byte(gateway: Rig, family: int) -> None:
    assert sent_to_node(gateway.run(asked(family, record(b"\3")[:12]))) == "n3"


# flows


def test_a_flow_stays_on_its_node(gateway: Rig, family: int) -> None:
    first = gateway.run(asked(family, HELLO))
    again = gateway.run(asked(family, FINISH))
    assert first.verdicts == {Verdict.BALANCED}
    assert again.verdicts == {Verdict.FLOW}
    assert sent_to_node(first) == sent_to_node(again)


def test_every_node_gets_its_share(gateway: Rig, family: int) -> None:
    found = [sent_to_node(gateway.run(asked(family, HELLO, port))) for port in range(2000, 2300)]
    assert all(60 < found.count(name) < 140 for name in NODE_MACS)


def test_a_handshake_ends_on_a_draining_node_and_a_new_one_starts_elsewhere(
    gateway: Rig, family: int
) -> None:
    was = sent_to_node(gateway.run(asked(family, HELLO)))
    gateway.change(states={("coaps", str(was)): NodeState.DRAINING})
    assert sent_to_node(gateway.run(asked(family, FINISH))) == was
    ran = gateway.run(asked(family, HELLO))
    assert ran.verdicts == {Verdict.BALANCED}
    assert sent_to_node(ran) != was


def test_a_flow_to_a_node_that_is_down_is_scheduled_anew(gateway: Rig, family: int) -> None:
    was = sent_to_node(gateway.run(asked(family, HELLO)))
    gateway.change(states={("coaps", str(was)): NodeState.DOWN})
    ran = gateway.run(asked(family, FINISH))
    now = sent_to_node(ran)
    assert (ran.verdicts, now != was) == ({Verdict.BALANCED}, True)
    assert sent_to_node(gateway.run(asked(family, FINISH))) == now


def test_a_handshake_ends_on_a_leaving_node_while_it_stays(gateway: Rig, family: int) -> None:
    port = next(
        port for port in range(2000, 2100) if sent_to_node(gateway.run(asked(family, HELLO, port))) == "n3"
    )
    without = COAPS[: COAPS.index(N3)] + COAPS[COAPS.index(PLAIN) :]
    gateway.change(without, leaving=[("coaps", "n3", 60)])
    assert sent_to_node(gateway.run(asked(family, FINISH, port))) == "n3"
    assert gateway.run(asked(family, record(b"\3abcde"))).verdicts == {Verdict.CID_UNKNOWN}
    assert gateway.run(answered(family, "n3"), "lan").action == REDIRECT
    assert sent_to_node(gateway.run(asked(family, HELLO, port))) != "n3"


def test_without_a_node_that_takes_new_flows_it_is_dropped(gateway: Rig, family: int) -> None:
    gateway.configure(states=ALL_DOWN)
    ran = gateway.run(asked(family, HELLO))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.NO_NODE})


def of_node_to_vip(family: int, port: int, payload: bytes) -> bytes:
    node, vip = packed(NODES[family]["n1"]), packed(VIP[family])
    segment = udp(node, vip, (port, 5684), payload)
    return framed(family, network(family, node, vip, segment), LAN_MAC, NODE_MACS["n1"])


def test_a_node_is_not_sent_its_own_datagram(gateway: Rig, family: int) -> None:
    ran = [gateway.run(of_node_to_vip(family, port, HELLO), "lan") for port in range(2000, 2060)]
    assert {frozenset(each.verdicts) for each in ran} == {
        frozenset({Verdict.HAIRPIN}),
        frozenset({Verdict.BALANCED}),
    }
    assert all((Verdict.HAIRPIN in each.verdicts) == (each.action == DROP) for each in ran)
    assert all(node_of(each.frame) != "n1" for each in ran if each.action != DROP)


def test_a_flow_that_would_turn_back_on_its_node_is_forgotten(gateway: Rig, family: int) -> None:
    """As on the nftables plane: the flow's node is down, and the scheduler picks the sender itself."""
    others = {("coaps", "n2"): NodeState.DOWN, ("coaps", "n3"): NodeState.DOWN}
    port = next(
        port
        for port in range(2000, 2100)
        if gateway.run(of_node_to_vip(family, port, HELLO), "lan").verdicts == {Verdict.BALANCED}
    )
    gateway.change(states=others)
    assert gateway.run(of_node_to_vip(family, port, FINISH), "lan").verdicts == {Verdict.HAIRPIN}
    gateway.change()
    assert gateway.run(of_node_to_vip(family, port, FINISH), "lan").verdicts == {Verdict.BALANCED}


# answers


def test_an_answer_leaves_as_the_listeners(gateway: Rig, family: int) -> None:
    for node in NODE_MACS:
        ran = gateway.run(answered(family, node), "lan")
        packet = read(ran)
        assert (ran.action, ran.verdicts) == (REDIRECT, {Verdict.REPLY})
        assert (packet.source, packet.ports) == (packed(VIP[family]), (5684, 40000))
        assert (packet.destination, packet.hop_limit) == (packed(CLIENT[family]), 63)
        assert ran.frame[:12] == mac(ROUTER_MAC) + mac(WAN_MAC)
        assert not sums.wrong(ran.frame)


def test_udp_checksum_zero_stays_zero(gateway: Rig, family: int) -> None:
    frame = bytearray(asked(family, record(b"\2abcde")))
    at = 14 + (20 if family == 4 else 40) + 6
    frame[at : at + 2] = b"\0\0"
    assert read(gateway.run(bytes(frame))).rest[6:8] == b"\0\0"


# what is the kernel's


def test_another_port_is_the_kernels(gateway: Rig, family: int) -> None:
    frame = asked(family, HELLO, listener=5685)
    assert untouched(gateway.run(frame), frame)


@pytest.mark.parametrize("to", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "02:00:00:00:09:09", LAN_MAC])
def test_frames_for_another_mac_are_the_kernels(gateway: Rig, family: int, to: str) -> None:
    frame = mac(to) + asked(family, record(b"\1abcde"))[6:]
    assert untouched(gateway.run(frame), frame)


MARTIANS = {4: ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"), 6: ("::", "::1", "ff02::1")}  # noqa: S104


def test_martians_are_the_kernels(gateway: Rig, family: int) -> None:
    for source in MARTIANS[family]:
        vip = packed(VIP[family])
        segment = udp(packed(source), vip, (40000, 5684), record(b"\1abcde"))
        frame = framed(family, network(family, packed(source), vip, segment))
        assert untouched(gateway.run(frame), frame)


def test_a_wrong_header_checksum_is_the_kernels(gateway: Rig) -> None:
    frame = bytearray(asked(4, record(b"\1abcde")))
    frame[14 + 10] ^= 1
    assert untouched(gateway.run(bytes(frame)), bytes(frame))


def test_lengths_that_lie_are_the_kernels(gateway: Rig, family: int) -> None:
    whole = asked(family, record(b"\1abcde"))
    for cut in range(14, len(whole)):
        assert untouched(gateway.run(whole[:cut]), whole[:cut])
    if family == 4:
        client, vip = packed(CLIENT[4]), packed(VIP[4])
        segment = udp(client, vip, (40000, 5684), record(b"\1abcde"))
        for length in (0, 19, 20, 27):
            packet = bytearray(ipv4(client, vip, segment))
            packet[2:4] = length.to_bytes(2, "big")
            packet[10:12] = b"\0\0"
            packet[10:12] = (0xFFFF - sums.total(bytes(packet[:20]))).to_bytes(2, "big")
            assert untouched(gateway.run(framed(4, bytes(packet))), framed(4, bytes(packet)))


def test_sizes_of_a_udp_header_that_lie_change_nothing(gateway: Rig, family: int) -> None:
    frame = bytearray(asked(family, record(b"\1abcde")))
    at = 14 + (20 if family == 4 else 40) + 4
    frame[at : at + 2] = b"\xff\xff"
    assert gateway.run(bytes(frame)).verdicts == {Verdict.CID}


# options and extension headers


@pytest.mark.parametrize("options", [b"\1" * 4, b"\1" * 40, b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0"])
def test_ipv4_options_are_carried(gateway: Rig, options: bytes) -> None:
    client, vip = packed(CLIENT[4]), packed(VIP[4])
    packet = ipv4(client, vip, udp(client, vip, (40000, 5684), record(b"\2abcde")), options=options)
    ran = gateway.run(framed(4, packet))
    assert sent_to_node(ran) == "n2"
    assert read(ran).header[20:] == options


def pad(next_header: int, units: int = 0) -> bytes:
    return bytes((next_header, units, 1, 4 + 8 * units)) + bytes(4 + 8 * units)


CHAINS = {
    "hop-by-hop": (0, pad(17)),
    "destination options": (60, pad(17, 2)),
    "routing, at its end": (43, bytes((17, 0, 4, 0)) + bytes(4)),
    "fragment, atomic": (44, bytes((17, 0, 0, 0)) + b"abcd"),
    "six in a row": (
        0,
        pad(60)
        + pad(43)
        + bytes((44, 0, 4, 0))
        + bytes(4)
        + bytes((60, 0, 0, 0))
        + b"abcd"
        + pad(60)
        + pad(17),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_ipv6_extension_headers_are_walked(gateway: Rig, chain: str) -> None:
    first, headers = CHAINS[chain]
    client, vip = packed(CLIENT[6]), packed(VIP[6])
    rest = headers + udp(client, vip, (40000, 5684), record(b"\2abcde"))
    ran = gateway.run(framed(6, ipv6(client, vip, rest, protocol=first)))
    assert sent_to_node(ran) == "n2"


@pytest.mark.parametrize("first", [43, 51, 50, 59, 135])
def test_what_is_not_walked_is_the_kernels(gateway: Rig, first: int) -> None:
    """A route that is not at its end, authentication, encryption, nothing, mobility."""
    client, vip = packed(CLIENT[6]), packed(VIP[6])
    rest = bytes((17, 0, 0, 1)) + bytes(4) + udp(client, vip, (40000, 5684), record(b"\2abcde"))
    frame = framed(6, ipv6(client, vip, rest, protocol=first))
    assert untouched(gateway.run(frame), frame)


# fragments


def fragments(family: int, payload: bytes, sizes: int = 512) -> list[bytes]:
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    segment, made = udp(client, vip, (40000, 5684), payload), []
    for at in range(0, len(segment), sizes):
        part, more = segment[at : at + sizes], at + sizes < len(segment)
        if family == 4:
            packet = ipv4(client, vip, part, part=at // 8 | 0x2000 * more, ident=77)
        else:
            header = bytes((17, 0)) + (at | more).to_bytes(2, "big") + b"abcd"
            packet = ipv6(client, vip, header + part, protocol=44)
        made.append(framed(family, packet))
    return made


def test_later_fragments_follow_the_first(gateway: Rig, family: int) -> None:
    ran = [gateway.run(frame) for frame in fragments(family, record(b"\2abcde") + bytes(1500))]
    assert [each.action for each in ran] == [REDIRECT] * 3
    assert {node_of(each.frame) for each in ran} == {"n2"}
    assert [each.verdicts for each in ran] == [{Verdict.CID}, {Verdict.FRAGMENT}, {Verdict.FRAGMENT}]
    whole = b"".join(read(each).rest for each in ran)
    pseudo = (
        read(ran[0]).source + read(ran[0]).destination + len(whole).to_bytes(4, "big") + bytes((0, 0, 0, 17))
    )
    assert sums.total(pseudo, whole) == 0


def test_a_later_fragment_without_its_first_is_dropped(gateway: Rig, family: int) -> None:
    ran = gateway.run(fragments(family, bytes(1500))[1])
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.FRAGMENT_LOST})


def test_fragments_to_another_port_of_the_vip_are_the_kernels(gateway: Rig, family: int) -> None:
    frames = fragments(family, bytes(1500))
    at = 14 + (20 if family == 4 else 48) + 2
    frames[0] = frames[0][:at] + b"\x16\x35" + frames[0][at + 2 :]
    assert [gateway.run(frame).action for frame in frames] == [PASS] * 3


# VLANs


@pytest.mark.parametrize("kind", [b"\x81\0", b"\x88\xa8"])
def test_a_tag_is_taken_off(gateway: Rig, family: int, kind: bytes) -> None:
    frame = asked(family, record(b"\2abcde"))
    ran = gateway.run(frame[:12] + kind + VLAN.to_bytes(2, "big") + frame[12:])
    assert sent_to_node(ran) == "n2"
    assert int.from_bytes(ran.frame[12:14], "big") == ETHER[family]


def test_a_tag_for_the_priority_only_is_no_vlan(gateway: Rig, family: int) -> None:
    frame = asked(family, record(b"\2abcde"))
    assert sent_to_node(gateway.run(frame[:12] + b"\x81\0\xe0\0" + frame[12:])) == "n2"


def test_an_unknown_vlan_is_the_kernels(gateway: Rig, family: int) -> None:
    frame = asked(family, record(b"\2abcde"))
    for tag in (b"\x81\0\0\x08", b"\x81\0\0\x07\x81\0\0\x07", b"\x81\0"):
        tagged = frame[:12] + tag + frame[12:]
        assert untouched(gateway.run(tagged), tagged)


@pytest.mark.parametrize("kind", [0x0806, 0x88CC, 0x8100, 0x9100])
def test_only_ip_is_read_behind_a_tag(gateway: Rig, family: int, kind: int) -> None:
    frame = asked(family, record(b"\2abcde"))
    tagged = frame[:12] + b"\x81\0\0\x07" + kind.to_bytes(2, "big") + frame[14:]
    assert untouched(gateway.run(tagged), tagged)


def test_a_node_behind_a_vlan_gets_its_tag(gateway: Rig, family: int) -> None:
    gateway.configure(COAPS.replace('"10.0.0.11", "fd00::11"', '"10.7.0.11", "fd07::11"', 1))
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert ran.action == TX
    assert ran.frame[:18] == mac("02:00:00:00:07:11") + mac(WAN_MAC) + b"\x81\0\0\7" + ETHER[family].to_bytes(
        2, "big"
    )
    assert not sums.wrong(ran.frame)


# errors of our own


def error_of(ran: Ran) -> tuple[int, int, int]:
    packet = read(ran)
    return packet.rest[0], packet.rest[1], int.from_bytes(packet.rest[4:8], "big")


@pytest.mark.parametrize("limit", [0, 1])
def test_an_ended_hop_limit_is_answered_as_from_the_listener(gateway: Rig, family: int, limit: int) -> None:
    frame = asked(family, record(b"\2abcde"), limit=limit)
    ran = gateway.run(frame)
    packet = read(ran)
    assert (ran.action, ran.verdicts) == (TX, {Verdict.HOP_LIMIT})
    assert (packet.source, packet.destination) == (packed(VIP[family]), packed(CLIENT[family]))
    assert error_of(ran)[:2] == {4: (11, 0), 6: (3, 0)}[family]
    assert ran.frame[:12] == mac(ROUTER_MAC) + mac(WAN_MAC)
    assert frame[14:].startswith(packet.rest[8:])
    assert not sums.wrong(ran.frame)


def test_an_answers_ended_hop_limit_is_answered_without_showing_other_nodes(
    gateway: Rig, family: int
) -> None:
    ran = gateway.run(answered(family, "n2", limit=1), "lan")
    assert (ran.action, ran.verdicts) == (TX, {Verdict.HOP_LIMIT})
    assert read(ran).source == packed(VIP[family])
    assert not sums.wrong(ran.frame)


NARROW = COAPS.replace('"10.0.0.11", "fd00::11"', '"10.3.0.11", "fd03::11"', 1)


def test_too_big_is_answered_with_the_mtu(gateway: Rig, family: int) -> None:
    gateway.configure(NARROW)
    fits = gateway.run(
        asked(family, (record(b"\1abcde") + bytes(2000))[: 1400 - (28 if family == 4 else 48)])
    )
    assert fits.action == REDIRECT
    ran = gateway.run(asked(family, (record(b"\1abcde") + bytes(2000))[: 1401 - (28 if family == 4 else 48)]))
    assert (ran.action, ran.verdicts) == (TX, {Verdict.TOO_BIG})
    assert error_of(ran) == {4: (3, 4, 1400), 6: (2, 0, 1400)}[family]
    assert not sums.wrong(ran.frame)


def test_the_kernel_cuts_up_what_may_be_fragmented(gateway: Rig) -> None:
    gateway.configure(NARROW)
    client, vip = packed(CLIENT[4]), packed(VIP[4])
    packet = ipv4(client, vip, udp(client, vip, (40000, 5684), record(b"\1abcde") + bytes(1400)))
    ran = gateway.run(framed(4, packet))
    assert (ran.action, ran.verdicts) == (PASS, {Verdict.CID, Verdict.BY_KERNEL})
    assert (read(ran).destination, read(ran).hop_limit) == (packed("10.3.0.11"), 64)
    assert not sums.wrong(ran.frame)


def test_a_later_fragment_too_big_for_its_link_is_not_sent(gateway: Rig) -> None:
    gateway.configure(NARROW)
    ran = [gateway.run(frame) for frame in fragments(4, record(b"\1abcde") + bytes(2900), 1440)]
    assert ran[0].action == PASS
    assert REDIRECT not in [each.action for each in ran[1:2]]


# the way there


def test_an_unresolved_neighbour_is_left_to_the_kernel_with_the_interface(gateway: Rig, family: int) -> None:
    gateway.configure(COAPS.replace('"10.0.0.11", "fd00::11"', f'"{UNRESOLVED[4]}", "{UNRESOLVED[6]}"', 1))
    gateway.ports(abi.PortFlag.NATIVE)
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert (ran.action, ran.verdicts) == (PASS, {Verdict.CID, Verdict.BY_KERNEL})
    assert int.from_bytes(ran.meta[:4], "little") == 0x706D6B6E
    assert int.from_bytes(ran.meta[4:8], "little") == gateway.namespace.index["lan"]
    assert read(ran).destination == packed(UNRESOLVED[family])
    assert not sums.wrong(ran.frame)


def test_without_a_route_it_is_dropped(gateway: Rig, family: int) -> None:
    own, nowhere = packed(NODES[family]["n1"]), packed(NOWHERE[family])
    segment = udp(own, nowhere, (5684, 40000), DATA)
    ran = gateway.run(framed(family, network(family, own, nowhere, segment), LAN_MAC, NODE_MACS["n1"]), "lan")
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.NO_ROUTE})


def test_an_interface_that_is_not_ours_is_not_redirected_to(gateway: Rig, family: int) -> None:
    gateway.ports(abi.PortFlag(0))
    ran = gateway.run(asked(family, record(b"\1abcde")))
    assert (ran.action, ran.verdicts) == (PASS, {Verdict.CID, Verdict.BY_KERNEL})


# ICMP errors


def about(
    family: int, kind: tuple[int, int], sent: bytes, by: str, size: int = 200, protocol: int | None = None
) -> bytes:
    """An ICMP error about a sent frame, from an address to the sender."""
    quoted = sums.behind_link(sent)[1]
    to = quoted[12:16] if family == 4 else quoted[8:24]
    message = icmp_error(packed(by), to, *kind, quoted[:size], 1300)
    return network(family, packed(by), to, message, protocol or (1 if family == 4 else 58))


ROUTER = {4: "203.0.113.1", 6: "2001:db8:5afe::1"}
INNER = {4: "10.0.0.200", 6: "fd00::200"}
UNREACHABLE = {4: (3, 3), 6: (1, 4)}
TOO_BIG = {4: (3, 4), 6: (2, 0)}


@pytest.mark.parametrize("size", [28, 48, 60, 500])
def test_an_error_about_an_answer_reaches_its_node(gateway: Rig, family: int, size: int) -> None:
    was = str(sent_to_node(gateway.run(asked(family, HELLO))))
    left = gateway.run(answered(family, was), "lan").frame
    ran = gateway.run(
        framed(
            family, about(family, TOO_BIG[family], left, ROUTER[family], max(size, 28 if family == 4 else 48))
        )
    )
    packet = read(ran)
    inner = sums.datagram(packet.rest[8:])
    assert (ran.verdicts, sent_to_node(ran)) == ({Verdict.ICMP_ERROR}, was)
    assert inner is not None
    assert (inner.source, packet.destination) == (packed(NODES[family][was]),) * 2
    assert inner.ports == (15684 if was == "n2" else 5684, 40000)


def test_an_error_about_a_sessions_answer_reaches_the_node_that_answered(gateway: Rig, family: int) -> None:
    left = gateway.run(answered(family, "n2"), "lan").frame
    ran = gateway.run(framed(family, about(family, TOO_BIG[family], left, ROUTER[family])))
    assert (ran.verdicts, sent_to_node(ran)) == ({Verdict.ICMP_ERROR}, "n2")


def test_an_error_about_what_nobody_sent_is_dropped(gateway: Rig, family: int) -> None:
    vip, client = packed(VIP[family]), packed(CLIENT[family])
    left = framed(family, network(family, vip, client, udp(vip, client, (5684, 40001), DATA)))
    ran = gateway.run(framed(family, about(family, TOO_BIG[family], left, ROUTER[family])))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.ICMP_UNKNOWN})


@pytest.mark.parametrize("size", [28, 48, 60, 500])
@pytest.mark.parametrize("by", ["the node", "a router"])
def test_an_error_about_what_a_node_was_sent_reaches_the_client_as_from_the_listener(
    gateway: Rig, family: int, size: int, by: str
) -> None:
    to_node = gateway.run(asked(family, record(b"\2abcde"))).frame
    source = INNER[family] if by == "a router" else NODES[family]["n2"]
    packet = about(family, UNREACHABLE[family], to_node, source, max(size, 28 if family == 4 else 48))
    ran = gateway.run(framed(family, packet, LAN_MAC, NODE_MACS["n2"]), "lan")
    outer = read(ran)
    inner = sums.datagram(outer.rest[8:])
    assert (ran.action, ran.verdicts) == (REDIRECT, {Verdict.ICMP_ERROR})
    assert inner is not None
    assert not sums.wrong(ran.frame)
    assert (outer.source, inner.destination, inner.ports) == (
        packed(VIP[family]),
        packed(VIP[family]),
        (40000, 5684),
    )


@pytest.mark.parametrize("trailer", [b"", b"\0" * 6, b"abcdefgh"])
def test_what_is_behind_a_cut_quote_is_left_alone(gateway: Rig, trailer: bytes) -> None:
    """The quote ends behind its ports: the checksum's place is not the message's any more."""
    to_node = gateway.run(asked(4, record(b"\2abcde"))).frame
    packet = about(4, UNREACHABLE[4], to_node, NODES[4]["n2"], 24)
    ran = gateway.run(framed(4, packet, LAN_MAC, NODE_MACS["n2"]) + trailer, "lan")
    assert (ran.action, sums.wrong(ran.frame)) == (REDIRECT, set())


def test_quotes_of_every_length_never_make_a_wrong_checksum_nor_show_a_node(
    gateway: Rig, family: int
) -> None:
    to_node = gateway.run(asked(family, record(b"\2abcde"))).frame
    node = packed(NODES[family]["n2"])
    for size in range(len(to_node) - 13):
        packet = about(family, UNREACHABLE[family], to_node, NODES[family]["n2"], size)
        ran = gateway.run(framed(family, packet, LAN_MAC, NODE_MACS["n2"]), "lan")
        if ran.action == REDIRECT:
            assert not sums.wrong(ran.frame)
            assert node not in ran.frame


def test_an_error_behind_options_does_not_show_the_node(gateway: Rig) -> None:
    to_node = gateway.run(asked(4, record(b"\2abcde"))).frame
    quoted, node, client = sums.behind_link(to_node)[1], packed(NODES[4]["n2"]), packed(CLIENT[4])
    packet = ipv4(node, client, icmp_error(node, client, 3, 3, quoted), protocol=1, options=b"\1" * 4)
    ran = gateway.run(framed(4, packet, LAN_MAC, NODE_MACS["n2"]), "lan")
    assert ran.action != PASS


def test_an_error_behind_an_extension_header_does_not_show_the_node(gateway: Rig) -> None:
    to_node = gateway.run(asked(6, record(b"\2abcde"))).frame
    quoted, node, client = sums.behind_link(to_node)[1], packed(NODES[6]["n2"]), packed(CLIENT[6])
    packet = ipv6(node, client, pad(58) + icmp_error(node, client, 1, 4, quoted), protocol=60)
    ran = gateway.run(framed(6, packet, LAN_MAC, NODE_MACS["n2"]), "lan")
    assert ran.action != PASS


def test_echo_requests_are_the_kernels(gateway: Rig, family: int) -> None:
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    message = icmp_error(client, vip, 8 if family == 4 else 128, 0, b"hello")
    frame = framed(family, network(family, client, vip, message, 1 if family == 4 else 58))
    assert untouched(gateway.run(frame), frame)


# multicast from a node


def test_a_nodes_multicast_is_the_kernels(gateway: Rig, family: int) -> None:
    own, many = packed(NODES[family]["n1"]), packed("224.0.113.1" if family == 4 else "ff0e::1")
    frame = framed(
        family, network(family, own, many, udp(own, many, (5684, 5684), DATA)), LAN_MAC, NODE_MACS["n1"]
    )
    assert gateway.run(frame, "lan").action != REDIRECT


# TCP

TCP = COAPS.replace('name = "plain"\nprotocol = "udp"', 'name = "plain"\nprotocol = "tcp"')
SYN, ACK, FIN, RST = 2, 16, 1, 4


def segment_of(family: int, flags: int, port: int = 40000, payload: bytes = b"") -> bytes:
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    return framed(family, network(family, client, vip, tcp(client, vip, (port, 53), payload, flags), 6))


def test_a_connection_stays_on_its_node_to_its_end(gateway: Rig, family: int) -> None:
    gateway.configure(TCP)
    ran = [gateway.run(segment_of(family, flags)) for flags in (SYN, ACK, ACK, FIN | ACK, ACK)]
    assert len({sent_to_node(each) for each in ran}) == 1
    assert [each.verdicts for each in ran] == [{Verdict.BALANCED}, *[{Verdict.FLOW}] * 4]


def test_a_reset_of_nothing_is_not_remembered(gateway: Rig, family: int) -> None:
    gateway.configure(TCP)
    ran = [gateway.run(segment_of(family, RST)) for _ in range(2)]
    assert [each.verdicts for each in ran] == [{Verdict.BALANCED}] * 2


def test_a_new_connection_from_an_old_port_leaves_a_draining_node(gateway: Rig, family: int) -> None:
    gateway.configure(TCP)
    was = sent_to_node(gateway.run(segment_of(family, SYN)))
    gateway.change(TCP, states={("plain", str(was)): NodeState.DRAINING})
    assert sent_to_node(gateway.run(segment_of(family, ACK))) == was
    assert sent_to_node(gateway.run(segment_of(family, SYN))) != was


def test_a_cut_tcp_header_is_neither_counted_nor_remembered(gateway: Rig, family: int) -> None:
    gateway.configure(TCP)
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    for size in (8, 12, 19):
        segment = tcp(client, vip, (40000, 53), b"", SYN)[:size]
        ran = gateway.run(framed(family, network(family, client, vip, segment, 6)) + bytes(30))
        assert not ran.counted


# events


def test_a_sampled_packet_is_told_of_with_its_verdict(gateway: Rig, family: int) -> None:
    gateway.maps.write_word(abi.Config.SAMPLE, 1)
    frame = asked(family, record(b"\7abcde") + b"!")
    with RingBuffer(gateway.maps.maps["events"]) as ring:
        ring.consume()
        gateway.run(frame)
        gateway.run(asked(family, HELLO, listener=5685))
        events = [abi.Event.unpack(each) for each in ring.consume()]
    assert [each.verdict for each in events] == [Verdict.CID_UNKNOWN]
    assert (events[0].length, events[0].interface) == (len(frame), gateway.namespace.index["wan"])
    assert events[0].bytes.rstrip(b"\0") == frame[: abi.EVENT_BYTES].rstrip(b"\0")


# versions


def test_a_packet_sees_the_version_in_force(gateway: Rig, family: int) -> None:
    frame = asked(family, record(b"\1abcde"))
    assert sent_to_node(gateway.run(frame)) == "n1"
    active = gateway.maps.config.active
    gateway.change(COAPS.replace("id = 1\n", "id = 9\n"))
    assert gateway.maps.config.active == 1 - active
    assert gateway.maps.config.dirty == 0
    assert gateway.run(frame).verdicts == {Verdict.CID_UNKNOWN}
    assert sent_to_node(gateway.run(asked(family, record(b"\x09abcde")))) == "n1"


def test_a_new_listener_and_a_new_node_are_found_at_once(gateway: Rig, family: int) -> None:
    text = COAPS.replace(
        '"192.0.2.10:5684", "[2001:db8::10]:5684"', '"192.0.2.20:5684", "[2001:db8::20]:5684"'
    )
    gateway.change(text)
    client, vip = packed(CLIENT[family]), packed({4: "192.0.2.20", 6: "2001:db8::20"}[family])
    segment = udp(client, vip, (40000, 5684), record(b"\1abcde"))
    assert sent_to_node(gateway.run(framed(family, network(family, client, vip, segment)))) == "n1"
    old = asked(family, record(b"\1abcde"))
    assert untouched(gateway.run(old), old)


def test_a_change_that_was_broken_off_is_mended(gateway: Rig, family: int) -> None:
    maps = gateway.maps
    for key, versions in list(maps.versions("listeners")):
        if any(key[16:19]):
            halves = [versions[0], versions[1]]
            halves[1 - maps.config.active] = bytes(len(versions[0]))
            maps.maps["listeners"].update(key, b"".join(halves))
    maps.write_word(abi.Config.DIRTY, 1)
    gateway.change(COAPS.replace("id = 1\n", "id = 9\n"))
    assert maps.config.dirty == 0
    assert sent_to_node(gateway.run(asked(family, record(b"\x09abcde")))) == "n1"
    assert all(one == other for _, (one, other) in maps.versions("listeners"))


def test_counters_live_through_a_change(gateway: Rig, family: int) -> None:
    gateway.run(asked(family, record(b"\1abcde")))
    gateway.change(COAPS.replace("id = 3\n", "id = 8\n"))
    assert gateway.totals()["coaps", "n1", Verdict.CID] == 1
