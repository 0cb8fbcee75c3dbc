"""full-nat by single frames: what a node is sent from, whose its answers are, and how ports are handed out."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.prog import sums
from tests.prog.frames import ETHER, icmp_error, ipv4, ipv6, mac, packed, tcp, udp
from tests.prog.rig import (
    CLIENT,
    DROP,
    LAN_MAC,
    NO_META,
    NODE_MACS,
    NODES,
    PASS,
    REDIRECT,
    ROUTER_MAC,
    TX,
    VIP,
    WAN_MAC,
    Ran,
    Rig,
    node_of,
)
from tests.prog.test_paths import framed, network

from pointsman.dataplane.xdp import fill
from pointsman.dataplane.xdp_maps import MapSet
from pointsman.dataplane.xdp_translations import take_over
from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.place import Layout

pytestmark = pytest.mark.netns

SOURCES = {4: ("10.0.0.1", "10.0.0.2", "10.0.0.3"), 6: ("fd00::1", "fd00::2", "fd00::3")}
LOW, HIGH = 30000, 30063
FIN, SYN, RST, ACK = 1, 2, 4, 16


def text(
    protocol: str = "udp",
    *,
    settings: str = "",
    sources: int = 1,
    ports: str = f"{LOW}-{HIGH}",
    nodes: int = 2,
    node_port: str = "",
    more: str = "",
) -> str:
    addresses = ", ".join(f'"{each}"' for family in (4, 6) for each in SOURCES[family][:sources])
    found = (
        '[gateway]\nname = "edge"\nhash_seed = "6f1d20c4"\nflow_memory = 4096\n[[service]]\nname = "s"\n'
        f'protocol = "{protocol}"\nlisten = ["192.0.2.10:53", "[2001:db8::10]:53"]\nforward = "full-nat"\n'
        f'source = [{addresses}]\nsource_ports = "{ports}"\n{settings}\n'
    )
    for n in range(1, nodes + 1):
        own = f'"10.0.0.1{n}{node_port}", "{f"[fd00::1{n}]{node_port}" if node_port else f"fd00::1{n}"}"'
        found += f'[[service.node]]\nname = "n{n}"\naddress = [{own}]\n'
    return found + more


def segment(
    protocol: str, source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes, flags: int
) -> bytes:
    if protocol == "tcp":
        return tcp(source, destination, ports, payload, flags)
    return udp(source, destination, ports, payload)


def asked(
    family: int,
    port: int = 40000,
    *,
    protocol: str = "udp",
    flags: int = SYN,
    payload: bytes = b"question",
    limit: int = 64,
    client: str | None = None,
) -> bytes:
    source, vip = packed(client or CLIENT[family]), packed(VIP[family])
    number = 6 if protocol == "tcp" else 17
    rest = segment(protocol, source, vip, (port, 53), payload, flags)
    return framed(family, network(family, source, vip, rest, number, limit))


def read(ran: Ran) -> sums.Datagram:
    assert ran.action in (REDIRECT, TX), ran
    assert not sums.wrong(ran.frame), sums.wrong(ran.frame)
    found = sums.datagram(sums.behind_link(ran.frame)[1])
    assert found is not None
    return found


def answered(
    family: int,
    to: sums.Datagram,
    *,
    protocol: str = "udp",
    flags: int = ACK,
    payload: bytes = b"answer",
    limit: int = 64,
) -> bytes:
    """What a node answers to a packet that it got."""
    node = next(name for name in NODE_MACS if packed(NODES[family][name]) == to.destination)
    number = 6 if protocol == "tcp" else 17
    rest = segment(protocol, to.destination, to.source, (to.ports[1], to.ports[0]), payload, flags)
    packet = network(family, to.destination, to.source, rest, number, limit)
    return framed(family, packet, LAN_MAC, NODE_MACS[node])


def elements(gateway: Rig) -> list[abi.Translation]:
    view, size = gateway.maps.views["translations"], abi.Translation.FORMAT.size
    every = (abi.Translation.unpack(view, at) for at in range(0, len(view), size))
    return [each for each in every if each.state & 1]


def end_all(gateway: Rig) -> None:
    """Have the time of every port be over."""
    view, size = gateway.maps.views["translations"], abi.Translation.FORMAT.size
    for at in range(0, len(view), size):
        view[at + 4 : at + 8] = bytes(4)


@pytest.fixture(params=["udp", "tcp"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# both ways


def test_a_packet_leaves_from_the_source_and_the_answer_from_the_listener(
    gateway: Rig, family: int, protocol: str
) -> None:
    gateway.configure(text(protocol))
    ran = gateway.run(asked(family, protocol=protocol))
    sent = read(ran)
    assert ran.verdicts == {Verdict.BALANCED}
    assert sent.source == packed(SOURCES[family][0])
    assert LOW <= sent.ports[0] <= HIGH
    assert node_of(ran.frame) in ("n1", "n2")
    assert sent.destination == packed(NODES[family][str(node_of(ran.frame))])
    assert (sent.ports[1], sent.hop_limit) == (53, 63)
    assert sent.rest.endswith(b"question")
    back = gateway.run(answered(family, sent, protocol=protocol), "lan")
    got = read(back)
    assert back.verdicts == {Verdict.REPLY}
    assert (got.source, got.destination) == (packed(VIP[family]), packed(CLIENT[family]))
    assert (got.ports, got.hop_limit) == ((53, 40000), 63)
    assert got.rest.endswith(b"answer")
    assert back.frame[:12] == mac(ROUTER_MAC) + mac(WAN_MAC)


def test_a_client_keeps_its_port_and_two_clients_never_share_one(
    gateway: Rig, family: int, protocol: str
) -> None:
    gateway.configure(text(protocol))
    first = {port: read(gateway.run(asked(family, port, protocol=protocol))) for port in range(2000, 2060)}
    used = [(each.destination, each.source, each.ports[0]) for each in first.values()]
    assert len(set(used)) == 60
    for port, sent in first.items():
        again = gateway.run(asked(family, port, protocol=protocol, flags=ACK))
        assert again.verdicts == {Verdict.FLOW}
        assert read(again).ports == sent.ports
        assert read(gateway.run(answered(family, sent, protocol=protocol), "lan")).ports == (53, port)


def test_nodes_may_have_ports_of_their_own(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol, node_port=":5353"))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    assert sent.ports[1] == 5353
    assert read(gateway.run(answered(family, sent, protocol=protocol), "lan")).ports == (53, 40000)


def test_no_udp_checksum_stays_none(gateway: Rig, family: int) -> None:
    gateway.configure(text())
    frame = bytearray(asked(family))
    at = 14 + (20 if family == 4 else 40) + 6
    frame[at : at + 2] = b"\0\0"
    sent = read(gateway.run(bytes(frame)))
    assert sent.rest[6:8] == b"\0\0"
    back = bytearray(answered(family, sent))
    back[at : at + 2] = b"\0\0"
    assert read(gateway.run(bytes(back), "lan")).rest[6:8] == b"\0\0"


def test_a_wrong_checksum_stays_wrong(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    frame = bytearray(asked(family, protocol=protocol))
    frame[-1] ^= 1
    ran = gateway.run(bytes(frame))
    assert sums.wrong(ran.frame) == {protocol}


@pytest.mark.parametrize("payload", [b"", b"x", b"xy", bytes(999)])
def test_checksums_are_right_for_any_length(gateway: Rig, family: int, protocol: str, payload: bytes) -> None:
    gateway.configure(text(protocol, sources=3))
    for port in range(2000, 2020):
        sent = read(gateway.run(asked(family, port, protocol=protocol, payload=payload)))
        read(gateway.run(answered(family, sent, protocol=protocol, payload=payload), "lan"))


def test_a_node_reaches_itself_by_the_vip(gateway: Rig, family: int, protocol: str) -> None:
    """Its packet comes from the gateway, so it answers the gateway: no hairpin."""
    gateway.configure(text(protocol, nodes=1))
    own, vip = packed(NODES[family]["n1"]), packed(VIP[family])
    number = 6 if protocol == "tcp" else 17
    rest = segment(protocol, own, vip, (40000, 53), b"to myself", SYN)
    ran = gateway.run(
        framed(family, network(family, own, vip, rest, number), LAN_MAC, NODE_MACS["n1"]), "lan"
    )
    sent = read(ran)
    assert sent.destination == own
    back = read(gateway.run(answered(family, sent, protocol=protocol), "lan"))
    assert (back.source, back.destination, back.ports) == (vip, own, (53, 40000))


def test_what_nobody_asked_for_is_the_kernels(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    number = 6 if protocol == "tcp" else 17
    got = sent.ports[0]
    asked_node = next(name for name in NODE_MACS if packed(NODES[family][name]) == sent.destination)
    other = "n2" if asked_node == "n1" else "n1"
    for node, port, to in (
        (asked_node, 53, got + 1 if got < HIGH else LOW),
        (asked_node, 53, HIGH + 1),
        (asked_node, 54, got),
        (other, 53, got),
        ("n3", 53, got),
    ):
        own = packed(NODES[family][node])
        rest = segment(protocol, own, sent.source, (port, to), b"?", ACK)
        frame = framed(family, network(family, own, sent.source, rest, number), LAN_MAC, NODE_MACS[node])
        ran = gateway.run(frame, "lan")
        assert (ran.action, ran.frame, ran.verdicts) == (PASS, frame, set())


def test_an_answer_from_the_clients_side_is_nobodys(gateway: Rig, family: int, protocol: str) -> None:
    """Who is not on the nodes' link cannot speak for a node."""
    gateway.configure(text(protocol))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    frame = answered(family, sent, protocol=protocol)
    gateway.ports(abi.PortFlag.NATIVE | NO_META | abi.PortFlag.CLIENTS)
    assert gateway.run(frame, "lan").action == PASS
    gateway.ports()
    assert read(gateway.run(frame, "lan")).ports == (53, 40000)


# ports


def test_every_port_of_the_range_is_handed_out_and_then_none(
    gateway: Rig, family: int, protocol: str
) -> None:
    gateway.configure(text(protocol, nodes=1))
    sent = [read(gateway.run(asked(family, port, protocol=protocol))) for port in range(2000, 2064)]
    assert {each.ports[0] for each in sent} == set(range(LOW, HIGH + 1))
    ran = gateway.run(asked(family, 3000, protocol=protocol))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.NO_SOURCE_PORT})
    for number, each in enumerate(sent):  # those that have one go on
        assert (
            read(gateway.run(asked(family, 2000 + number, protocol=protocol, flags=ACK))).ports == each.ports
        )
        assert read(gateway.run(answered(family, each, protocol=protocol), "lan")).ports == (
            53,
            2000 + number,
        )


def test_more_sources_are_more_ports(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol, nodes=1, sources=3))
    sent = [read(gateway.run(asked(family, port, protocol=protocol))) for port in range(2000, 2192)]
    assert Counter(each.source for each in sent) == {packed(each): 64 for each in SOURCES[family]}
    assert len({(each.source, each.ports[0]) for each in sent}) == 192
    assert gateway.run(asked(family, 3000, protocol=protocol)).verdicts == {Verdict.NO_SOURCE_PORT}


def test_a_wide_range_is_handed_out_to_the_last_port(gateway: Rig, family: int) -> None:
    gateway.configure(text(nodes=1, ports="20000-21023"))
    found, refused = set(), 0
    for port in range(2000, 2000 + 1024):
        found.add(read(gateway.run(asked(family, port))).ports[0])
    assert found == set(range(20000, 21024))
    # One becomes free: it is found, though not by the first packet that looks.
    view, size = gateway.maps.views["translations"], abi.Translation.FORMAT.size
    freed = next(at for at in range(0, len(view), size) if view[at] & 1)
    view[freed + 4 : freed + 8] = bytes(4)
    while (ran := gateway.run(asked(family, 9000))).verdicts == {Verdict.NO_SOURCE_PORT}:
        refused += 1
        assert refused < 9
    read(ran)


def test_ports_whose_time_is_over_are_handed_out_again(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol, nodes=1))
    old = read(gateway.run(asked(family, 2000, protocol=protocol)))
    for port in range(2001, 2064):
        gateway.run(asked(family, port, protocol=protocol))
    end_all(gateway)
    assert gateway.run(answered(family, old, protocol=protocol), "lan").action == PASS
    sent = {read(gateway.run(asked(family, port, protocol=protocol))).ports[0] for port in range(5000, 5064)}
    assert sent == set(range(LOW, HIGH + 1))
    assert len(list(gateway.maps.maps["translated"].keys())) == 64


def test_a_client_that_comes_back_has_its_port_again(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol, nodes=1))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    end_all(gateway)
    assert read(gateway.run(asked(family, protocol=protocol))).ports == sent.ports


@pytest.mark.parametrize(
    "ends", [[("client", FIN | ACK), ("node", FIN | ACK)], [("client", RST)], [("node", RST)]]
)
def test_an_ended_connection_keeps_its_port_for_a_minute(
    gateway: Rig, family: int, ends: list[tuple[str, int]]
) -> None:
    gateway.configure(text("tcp", nodes=1, settings='flow_timeout = "1h"'))
    sent = read(gateway.run(asked(family, protocol="tcp")))
    gateway.run(answered(family, sent, protocol="tcp", flags=SYN | ACK), "lan")
    (one,) = elements(gateway)
    assert one.state & 0xFF == 1
    for who, flags in ends:
        if who == "client":
            read(gateway.run(asked(family, protocol="tcp", flags=flags)))
        else:
            read(gateway.run(answered(family, sent, protocol="tcp", flags=flags), "lan"))
    (after,) = elements(gateway)
    assert after.state & 0xFF == 7
    assert (one.state >> 32) - (after.state >> 32) > 3600 * 3  # ticks: from an hour to a minute
    read(gateway.run(asked(family, protocol="tcp", flags=SYN)))  # its client opens anew from the same port
    assert elements(gateway)[0].state & 0xFF == 1


def test_a_half_closed_connection_keeps_its_port(gateway: Rig, family: int) -> None:
    gateway.configure(text("tcp", nodes=1, settings='flow_timeout = "1h"'))
    sent = read(gateway.run(asked(family, protocol="tcp")))
    (before,) = elements(gateway)
    gateway.run(asked(family, protocol="tcp", flags=FIN | ACK))
    read(gateway.run(answered(family, sent, protocol="tcp"), "lan"))
    (after,) = elements(gateway)
    assert after.state & 0xFF == 3
    assert after.state >> 32 >= before.state >> 32


# nodes that change


def test_flows_follow_states_as_with_nat(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    ran = gateway.run(asked(family, protocol=protocol))
    was, sent = str(node_of(ran.frame)), read(ran)
    gateway.change(text(protocol), {("s", was): NodeState.DRAINING})
    again = read(gateway.run(asked(family, protocol=protocol, flags=ACK)))
    assert (again.destination, again.ports) == (sent.destination, sent.ports)
    assert read(gateway.run(answered(family, sent, protocol=protocol), "lan")).ports == (53, 40000)
    gateway.change(text(protocol), {("s", was): NodeState.DOWN})
    moved = gateway.run(asked(family, protocol=protocol, flags=ACK))
    assert node_of(moved.frame) not in (None, was)
    assert read(gateway.run(answered(family, read(moved), protocol=protocol), "lan")).ports == (53, 40000)
    # What the node that was left still sends reaches its client.
    assert read(gateway.run(answered(family, sent, protocol=protocol), "lan")).ports == (53, 40000)


def test_a_removed_node_lingers_with_its_ports(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    for port in range(2000, 2040):
        ran = gateway.run(asked(family, port, protocol=protocol))
        if node_of(ran.frame) == "n2":
            break
    sent = read(ran)
    gateway.change(text(protocol, nodes=1), leaving=[("s", "n2", 60)])
    again = read(gateway.run(asked(family, port, protocol=protocol, flags=ACK)))
    assert (again.destination, again.ports) == (sent.destination, sent.ports)
    assert read(gateway.run(answered(family, sent, protocol=protocol), "lan")).ports == (53, port)
    gateway.change(text(protocol, nodes=1))
    assert gateway.run(answered(family, sent, protocol=protocol), "lan").action == PASS
    moved = read(gateway.run(asked(family, port, protocol=protocol, flags=ACK)))
    assert moved.destination == packed(NODES[family]["n1"])
    assert not [each for each in gateway.maps.maps["translated"].items_batch() if each[1][22:24] == b"\2\0"]


def test_nothing_is_lost_over_changes(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    sent = {port: read(gateway.run(asked(family, port, protocol=protocol))) for port in range(2000, 2020)}
    changes = (
        text(protocol, nodes=3),
        text(protocol, nodes=3, sources=2),
        text(protocol, ports=f"{LOW - 10}-{HIGH + 20}"),
        text(protocol, ports=f"{LOW - 500}-{HIGH}"),
        text(protocol),
    )
    for want in changes:
        gateway.change(want)
        for port, each in sent.items():
            again = read(gateway.run(asked(family, port, protocol=protocol, flags=ACK)))
            assert (again.source, again.ports, again.destination) == (
                each.source,
                each.ports,
                each.destination,
            )
            assert read(gateway.run(answered(family, each, protocol=protocol), "lan")).ports == (53, port)
    taken = gateway.layout.translations.taken
    assert taken == sum(block.ports for block in gateway.layout.blocks.values())


def test_translations_move_into_larger_maps(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    sent = {port: read(gateway.run(asked(family, port, protocol=protocol))) for port in range(2000, 2020)}
    sizes = type(gateway.sizes)(
        **{**{name: getattr(gateway.sizes, name) for name in gateway.sizes.__slots__}, "translations": 9000}
    )
    old, layout, before = gateway.maps, gateway.layout, gateway.sizes
    gateway.maps = MapSet.load(sizes, old)
    try:
        assert gateway.maps.infos["translations"].id != old.infos["translations"].id
        gateway.layout, gateway.sizes = Layout(sizes), sizes
        fill(gateway.maps, gateway.layout, gateway.compiled, layout)
        gateway.maps.write("settings", 0, bytes(old.views["settings"]))
        gateway.maps.views["ports"][:] = old.views["ports"][:]
        take_over(old, layout.blocks, gateway.maps, gateway.layout.blocks)
        for port, each in sent.items():
            assert read(gateway.run(answered(family, each, protocol=protocol), "lan")).ports == (53, port)
            assert read(gateway.run(asked(family, port, protocol=protocol, flags=ACK))).ports == each.ports
    finally:
        gateway.maps.close()
        gateway.maps, gateway.sizes = old, before


# odd packets


def test_fragments_follow_the_first(gateway: Rig, family: int) -> None:
    gateway.configure(text())
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    datagram = udp(client, vip, (40000, 53), bytes(range(200)) * 5)

    def parts(source: bytes, destination: bytes, whole: bytes) -> list[bytes]:
        if family == 4:
            return [
                ipv4(source, destination, whole[:512], part=0x2000, ident=77),
                ipv4(source, destination, whole[512:], part=64, ident=77),
            ]
        head = b"\x11\0" + (1).to_bytes(2, "big") + (77).to_bytes(4, "big")
        last = b"\x11\0" + (512).to_bytes(2, "big") + (77).to_bytes(4, "big")
        return [
            ipv6(source, destination, head + whole[:512], protocol=44),
            ipv6(source, destination, last + whole[512:], protocol=44),
        ]

    def carried(packets: list[bytes], to: str, source: str, on: str) -> tuple[sums.Datagram, sums.Datagram]:
        rans = [gateway.run(framed(family, each, to, source), on) for each in packets]
        assert Verdict.FRAGMENT in rans[1].verdicts
        first, later = (read(each) for each in rans)
        assert (first.source, first.destination) == (later.source, later.destination)
        return first, later

    first, later = carried(parts(client, vip, datagram), WAN_MAC, ROUTER_MAC, "wan")
    assert first.source == packed(SOURCES[family][0])
    whole = first.rest + later.rest
    pseudo = first.source + first.destination + len(whole).to_bytes(4, "big") + (17).to_bytes(4, "big")
    assert sums.total(pseudo, whole) == 0
    back = udp(first.destination, first.source, (53, first.ports[0]), bytes(1000))
    node = next(name for name in NODE_MACS if packed(NODES[family][name]) == first.destination)
    first, later = carried(parts(first.destination, first.source, back), LAN_MAC, NODE_MACS[node], "lan")
    assert (first.source, first.destination, first.ports) == (vip, client, (53, 40000))


def test_a_vlan_tag_and_ip_options_do_not_matter(gateway: Rig, family: int) -> None:
    gateway.configure(text())
    client, vip = packed(CLIENT[family]), packed(VIP[family])
    rest = udp(client, vip, (40000, 53), b"odd")
    if family == 4:
        packet = ipv4(client, vip, rest, options=b"\1" * 8)
    else:
        packet = ipv6(client, vip, bytes((17, 0, 1, 4, 0, 0, 0, 0)) + rest, protocol=60)
    tagged = mac(WAN_MAC) + mac(ROUTER_MAC) + b"\x81\0\0\x07" + ETHER[family].to_bytes(2, "big") + packet
    for frame in (framed(family, packet), tagged):
        sent = read(gateway.run(frame))
        assert sent.source == packed(SOURCES[family][0])
        assert sent.rest.endswith(b"odd")


def test_hop_limit_and_size_are_answered_as_by_a_router(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    ended = gateway.run(asked(family, protocol=protocol, limit=1))
    assert (ended.action, ended.verdicts) == (TX, {Verdict.HOP_LIMIT})
    assert read(ended).source == packed(VIP[family])
    back = gateway.run(answered(family, sent, protocol=protocol, limit=1), "lan")
    assert (back.action, back.verdicts) == (TX, {Verdict.HOP_LIMIT})
    assert read(back).source == sent.source
    big = gateway.run(asked(family, protocol=protocol, flags=ACK, payload=bytes(1600)))
    assert (big.action, big.verdicts) == (TX, {Verdict.TOO_BIG})
    assert read(big).source == packed(VIP[family])


# what else is known of a connection


def test_a_connection_survives_that_its_flow_is_forgotten(gateway: Rig, family: int) -> None:
    """As when flow_memory has another size: the translation says which node it is on."""
    gateway.configure(text("tcp", nodes=3))
    for port in range(2000, 2012):
        ran = gateway.run(asked(family, port, protocol="tcp"))
        was, sent = str(node_of(ran.frame)), read(ran)
        gateway.change(text("tcp", nodes=3), {("s", was): NodeState.DRAINING})
        gateway.maps.views["flows"][:] = bytes(len(gateway.maps.views["flows"]))
        again = read(gateway.run(asked(family, port, protocol="tcp", flags=ACK)))
        assert (again.destination, again.ports) == (sent.destination, sent.ports)
        gateway.maps.views["flows"][:] = bytes(len(gateway.maps.views["flows"]))
        fresh = gateway.run(asked(family, port, protocol="tcp", flags=SYN))
        assert node_of(fresh.frame) not in (None, was)


# ICMP errors


def error(family: int, source: bytes, destination: bytes, kind: tuple[int, int], quoted: bytes) -> bytes:
    message = icmp_error(source, destination, *kind, quoted, 1400)
    return network(family, source, destination, message, 1 if family == 4 else 58)


@pytest.mark.parametrize("kept", [28, 36, 48, 64, 500])
def test_an_error_about_a_nodes_answer_reaches_the_node(
    gateway: Rig, family: int, protocol: str, kept: int
) -> None:
    gateway.configure(text(protocol, node_port=":5353"))
    sent = read(gateway.run(asked(family, protocol=protocol)))
    left = gateway.run(answered(family, sent, protocol=protocol, payload=bytes(300)), "lan")
    quoted = left.frame[14 : 14 + max(kept, 48 if family == 6 else 28)]
    router = packed({4: "203.0.113.250", 6: "2001:db8:5afe::250"}[family])
    kind = (3, 4) if family == 4 else (2, 0)
    ran = gateway.run(framed(family, error(family, router, packed(VIP[family]), kind, quoted)))
    got = read(ran)
    assert ran.verdicts == {Verdict.ICMP_ERROR}
    assert (got.source, got.destination) == (sent.source, sent.destination)
    inner = sums.datagram(got.rest[8:])
    assert inner is not None
    assert (inner.source, inner.destination) == (sent.destination, sent.source)
    assert inner.ports == (5353, sent.ports[0])
    assert got.rest[4:8] == (1400).to_bytes(4, "big")


@pytest.mark.parametrize("kept", [28, 36, 48, 64, 500])
def test_an_error_about_what_a_node_was_sent_reaches_the_client(
    gateway: Rig, family: int, protocol: str, kept: int
) -> None:
    gateway.configure(text(protocol, node_port=":5353"))
    ran = gateway.run(asked(family, protocol=protocol, payload=bytes(300)))
    sent, node = read(ran), str(node_of(ran.frame))
    quoted = ran.frame[14 : 14 + max(kept, 48 if family == 6 else 28)]
    kind = (3, 3) if family == 4 else (1, 4)
    back = gateway.run(
        framed(family, error(family, sent.destination, sent.source, kind, quoted), LAN_MAC, NODE_MACS[node]),
        "lan",
    )
    got = read(back)
    assert back.verdicts == {Verdict.ICMP_ERROR}
    assert (got.source, got.destination) == (packed(VIP[family]), packed(CLIENT[family]))
    inner = sums.datagram(got.rest[8:])
    assert inner is not None
    assert (inner.source, inner.destination, inner.ports) == (got.destination, got.source, (40000, 53))
    assert sent.source not in back.frame
    assert sent.destination not in back.frame


def test_errors_about_nobodys_packets(gateway: Rig, family: int, protocol: str) -> None:
    gateway.configure(text(protocol))
    number = 6 if protocol == "tcp" else 17
    vip, client, kind = packed(VIP[family]), packed(CLIENT[family]), (3, 3) if family == 4 else (1, 4)
    quoted = network(family, vip, client, segment(protocol, vip, client, (53, 999), bytes(40), ACK), number)
    ran = gateway.run(framed(family, error(family, client, vip, kind, quoted)))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.ICMP_UNKNOWN})
    own, node = packed(SOURCES[family][0]), packed(NODES[family]["n1"])
    for port in (LOW, HIGH + 1):  # an error about what a program on the gateway sent is the kernel's
        quoted = network(family, own, node, segment(protocol, own, node, (port, 53), bytes(40), ACK), number)
        frame = framed(family, error(family, node, own, kind, quoted), LAN_MAC, NODE_MACS["n1"])
        ran = gateway.run(frame, "lan")
        assert (ran.action, ran.frame, ran.verdicts) == (PASS, frame, set())
