"""What the filter holds against single frames, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import pytest
from tests.prog.frames import ETHER, ipv4, ipv6, mac, packed, udp
from tests.prog.rig import (
    CLIENT,
    COAPS,
    DROP,
    LAN_MAC,
    NODE_MACS,
    NODES,
    PASS,
    REDIRECT,
    ROUTER_MAC,
    VIP,
    WAN_MAC,
    Ran,
    Rig,
)

from pointsman.dataplane.xdp_maps import GUARD as PROGRAM
from pointsman.dataplane.xdp_maps import TRIES
from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict
from pointsman.wire import dtls

pytestmark = pytest.mark.netns

HELLO = dtls.client_hello(bytes(32))
DATA = dtls.application_data()
RECORD = dtls.cid_record(b"\1abcde")
CERTAIN = "connection_id = { offset = 0, bits = 8, length = 6 }\n"
DNS = bytes.fromhex("16fefd00000100010000000007") + b"example\3com\0\0\1\0\1" + bytes(16)
"""A DNS answer of opcode 15, whose header reads as a record's: 7 bytes, the length of the name's first label."""


def filtered(own: str, text: str = COAPS) -> str:
    """The service of rig.COAPS with a filter."""
    table = f"[service.filter]\n{own}\n"
    return text.replace(
        '[[service.node]]\nname = "n1"\nid = 1', f'{table}[[service.node]]\nname = "n1"\nid = 1', 1
    )


def hello(seq: int = 0, cookie: bytes = b"") -> bytes:
    return dtls.client_hello(bytes(32), cookie=cookie, message_seq=seq)


def asked(
    family: int,
    payload: bytes,
    port: int = 40000,
    source: str | None = None,
    to: int = 5684,
    vip: str | None = None,
) -> bytes:
    client, own = packed(source or CLIENT[family]), packed(vip or VIP[family])
    segment = udp(client, own, (port, to), payload)
    packet = ipv4(client, own, segment, part=0x4000) if family == 4 else ipv6(client, own, segment)
    return mac(WAN_MAC) + mac(ROUTER_MAC) + ETHER[family].to_bytes(2, "big") + packet


def answered(family: int, payload: bytes, node: str = "n1", port: int = 40000) -> bytes:
    own, client = packed(NODES[family][node]), packed(CLIENT[family])
    segment = udp(own, client, (15684 if node == "n2" else 5684, port), payload)
    packet = ipv4(own, client, segment, part=0x4000) if family == 4 else ipv6(own, client, segment)
    return mac(LAN_MAC) + mac(NODE_MACS[node]) + ETHER[family].to_bytes(2, "big") + packet


def passed(ran: Ran) -> bool:
    return ran.action == REDIRECT and not any(verdict in HELD for verdict in ran.verdicts)


def held(ran: Ran, verdict: Verdict) -> bool:
    return ran.action == DROP and ran.verdicts == {verdict} and ran.counted[verdict] == 1


HELD = {
    *(Verdict.NOT_DTLS, Verdict.BAD_LENGTH, Verdict.BAD_EPOCH, Verdict.SOURCE_PORT, Verdict.DENIED),
    *(Verdict.HELLO_OVER_PREFIX, Verdict.HELLO_OVER_TOTAL, Verdict.HELLO_OVER_NODE),
    *(Verdict.CID_OVER_PREFIX, Verdict.CID_OVER_NODE, Verdict.UNPROVEN),
}

GOOD = {
    "ClientHello": HELLO,
    "ClientHello of DTLS 1.0": dtls.client_hello(bytes(32), version=dtls.DTLS_1_0),
    "with a cookie, of DTLS 1.0": dtls.client_hello(
        bytes(32), cookie=bytes(16), message_seq=1, version=dtls.DTLS_1_0
    ),
    "flight 5": dtls.handshake_record(16, b"\0\7client0", message_seq=2)
    + dtls.record(20, b"\1", sequence=3)
    + RECORD,
    "Finished": dtls.record(22, bytes(40), epoch=1),
    "alert": dtls.record(21, b"\1\0"),
    "data": DATA,
    "heartbeat": dtls.record(24, bytes(24), epoch=1),
    "CID record": RECORD,
    "two CID records": RECORD * 2,
    "forty records": dtls.application_data(body=bytes(9)) * 40,
}
BAD = {
    "nothing": (b"", Verdict.NOT_DTLS),
    "CoAP": (b"\x40\1\0\1", Verdict.NOT_DTLS),
    "ACK of DTLS 1.3": (dtls.record(21, b"\1\0").replace(b"\x15", b"\x1a", 1), Verdict.NOT_DTLS),
    "unified header": (b"\x2c\0\1\0\x20" + bytes(32), Verdict.NOT_DTLS),
    "data of DTLS 1.0": (DATA.replace(b"\xfe\xfd", b"\xfe\xff", 1), Verdict.NOT_DTLS),
    "cut off in the header": (DATA[:12], Verdict.BAD_LENGTH),
    "cut off in the body": (DATA[:-1], Verdict.BAD_LENGTH),
    "an empty record": (DATA[:11] + b"\0\0" + DATA[13:], Verdict.BAD_LENGTH),
    "CID record cut off": (RECORD[:-1], Verdict.BAD_LENGTH),
    "CID record of epoch 0": (dtls.cid_record(b"\1abcde", epoch=0), Verdict.BAD_EPOCH),
    "ClientHello of epoch 1": (HELLO[:3] + b"\0\1" + HELLO[5:], Verdict.BAD_EPOCH),
}
LATER = {
    "junk behind a record": (DATA + b"junk", Verdict.NOT_DTLS),
    "a second record cut off": (DATA + DATA[:-1], Verdict.BAD_LENGTH),
    "a second CID record of epoch 0": (RECORD + dtls.cid_record(b"\1abcde", epoch=0), Verdict.BAD_EPOCH),
    "junk in the 32nd place": (DATA * 31 + b"junk", Verdict.NOT_DTLS),
    "a DNS answer of opcode 15": (DNS, Verdict.NOT_DTLS),
}


@pytest.mark.parametrize("level", ["header", "record"])
@pytest.mark.parametrize("payload", GOOD.values(), ids=GOOD)
def test_dtls_passes(gateway: Rig, family: int, payload: bytes, level: str) -> None:
    gateway.configure(filtered(f'level = "{level}"'))
    assert passed(gateway.run(asked(family, payload)))


@pytest.mark.parametrize("level", ["header", "record"])
@pytest.mark.parametrize(("payload", "verdict"), BAD.values(), ids=BAD)
def test_what_is_not_dtls_is_dropped(
    gateway: Rig, family: int, payload: bytes, verdict: Verdict, level: str
) -> None:
    gateway.configure(filtered(f'level = "{level}"'))
    assert held(gateway.run(asked(family, payload)), verdict)
    gateway.configure()
    assert not HELD & gateway.run(asked(family, payload)).verdicts


@pytest.mark.parametrize(("payload", "verdict"), LATER.values(), ids=LATER)
def test_later_records_are_read_at_level_record_alone(
    gateway: Rig, family: int, payload: bytes, verdict: Verdict
) -> None:
    gateway.configure(filtered('level = "record"'))
    assert held(gateway.run(asked(family, payload)), verdict)
    gateway.configure(filtered('level = "header"'))
    assert passed(gateway.run(asked(family, payload)))


def test_a_record_behind_the_32nd_is_not_looked_at(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('level = "record"'))
    assert passed(gateway.run(asked(family, DATA * 32 + b"junk")))


def test_without_a_known_length_nothing_behind_a_cid_is_judged(gateway: Rig, family: int) -> None:
    text = filtered('level = "record"').replace(", length = 6", "")
    gateway.configure(text)
    assert passed(gateway.run(asked(family, RECORD[:-1] + b"junk")))
    assert held(gateway.run(asked(family, RECORD[:13])), Verdict.BAD_LENGTH)


def test_dtls13_passes_where_it_is_allowed(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('level = "record"\ndtls13 = true'))
    sealed = b"\x2c\0\1\0\x20" + bytes(32)
    for payload in (sealed, sealed * 2, b"\x28\0\1" + bytes(16), b"\x1a\xfe\xfd" + bytes(8) + b"\0\2\0\0"):
        assert passed(gateway.run(asked(family, payload)))
    assert held(gateway.run(asked(family, sealed[:-1])), Verdict.BAD_LENGTH)
    assert held(gateway.run(asked(family, b"\x28\0\1" + bytes(15))), Verdict.BAD_LENGTH)


def test_monitor_counts_and_lets_pass(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('mode = "monitor"'))
    ran = gateway.run(asked(family, DATA[:-1]))
    assert ran.action == REDIRECT
    assert ran.counted[Verdict.BAD_LENGTH] == ran.counted[Verdict.BALANCED] == 1


def test_the_udp_header_says_how_long_a_datagram_is(gateway: Rig) -> None:
    gateway.configure(filtered('level = "header"'))
    frame = bytearray(asked(4, DATA))
    for length in (7, len(DATA) + 9):
        frame[38:40] = length.to_bytes(2, "big")
        assert held(gateway.run(bytes(frame)), Verdict.BAD_LENGTH)


def test_source_ports_are_dropped(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('drop_source_ports = ["reflectors", 40001, "50000-50002"]'))
    for port in (53, 123, 5683, 11211, 40001, 50000, 50002):
        assert held(gateway.run(asked(family, HELLO, port)), Verdict.SOURCE_PORT)
    for port in (1, 54, 40000, 40002, 49999, 50003, 65535):
        assert passed(gateway.run(asked(family, HELLO, port)))


def test_the_longest_prefix_wins_and_allow_wins_a_tie(gateway: Rig) -> None:
    deny = ["198.51.0.0/16", "198.51.100.128/25", "203.0.113.0/24", "2001:db8:c::/48", "2001:db8:c:1::/64"]
    allow = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:c::7", "2001:db8:c:1::/64"]
    gateway.configure(filtered(f"deny = {deny}\nallow = {allow}\ndrop_source_ports = [53]".replace("'", '"')))
    says = {
        "198.51.7.1": Verdict.DENIED,
        "198.51.100.7": None,
        "198.51.100.200": Verdict.DENIED,
        "203.0.113.9": None,
        "192.0.2.77": Verdict.SOURCE_PORT,
        "2001:db8:c::7": None,
        "2001:db8:c::8": Verdict.DENIED,
        "2001:db8:c:1::8": None,
        "2001:db8:d::8": Verdict.SOURCE_PORT,
    }
    for source, verdict in says.items():
        family = 6 if ":" in source else 4
        # An allowed source may come from any port, another not; of both reasons the port comes first.
        from_port = Verdict.SOURCE_PORT if verdict is not None else None
        for port, wanted in ((40000, None if verdict is Verdict.SOURCE_PORT else verdict), (53, from_port)):
            ran = gateway.run(asked(family, HELLO, port, source))
            assert held(ran, wanted) if wanted else not HELD & ran.verdicts, (source, port, ran)
    assert held(gateway.run(asked(4, b"junk", 40000, "198.51.100.7")), Verdict.NOT_DTLS)


def counted(gateway: Rig, frames: list[bytes], verdict: Verdict) -> list[bool]:
    return [held(gateway.run(frame), verdict) for frame in frames]


def test_hellos_of_a_prefix_have_a_budget_and_others_another(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("hello = { per_prefix = 1, burst = 4 }\nprefix4 = 24\nprefix6 = 48"))
    near, far = ("198.51.100.9", "198.51.101.7") if family == 4 else ("2001:db8:c:9::1", "2001:db8:d::7")
    frames = [asked(family, HELLO, 40000 + n, near if n % 2 else None) for n in range(6)]
    assert counted(gateway, frames, Verdict.HELLO_OVER_PREFIX) == [False] * 4 + [True] * 2
    assert passed(gateway.run(asked(family, HELLO, source=far)))
    # Nothing else is a ClientHello.
    assert passed(gateway.run(asked(family, DATA)))
    assert passed(gateway.run(asked(family, RECORD)))


def test_a_hello_with_a_cookie_costs_a_quarter(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("hello = { total = 1, burst = 2 }"))
    frames = [asked(family, hello(1, bytes(16)), 40000 + n) for n in range(10)]
    assert counted(gateway, frames, Verdict.HELLO_OVER_TOTAL) == [False] * 8 + [True] * 2


def test_listeners_of_a_service_share_the_budget_in_all(gateway: Rig) -> None:
    gateway.configure(filtered("hello = { total = 1, burst = 2 }"))
    ran = [gateway.run(asked(family, HELLO)) for family in (4, 6, 4, 6)]
    assert [held(each, Verdict.HELLO_OVER_TOTAL) for each in ran] == [False, False, True, True]


def test_allowed_sources_have_no_budget(gateway: Rig, family: int) -> None:
    gateway.configure(
        filtered(f'hello = {{ total = 1, per_node = 1, burst = 1 }}\nallow = ["{CLIENT[family]}"]')
    )
    assert all(passed(gateway.run(asked(family, HELLO))) for _ in range(5))


def test_each_node_has_a_budget_of_hellos_whichever_listener(gateway: Rig) -> None:
    gateway.configure(
        filtered("hello = { per_node = 1, burst = 3 }"),
        {("coaps", "n2"): NodeState.DOWN, ("coaps", "n3"): NodeState.DOWN},
    )
    frames = [asked(4 if n % 2 else 6, HELLO, 40000 + n) for n in range(5)]
    assert counted(gateway, frames, Verdict.HELLO_OVER_NODE) == [False] * 3 + [True] * 2


def test_records_have_budgets_of_their_node_and_their_prefix(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("cid = { per_node = 1, burst = 2 }"))
    frames = [asked(family, RECORD)] * 4
    assert counted(gateway, frames, Verdict.CID_OVER_NODE) == [False, False, True, True]
    assert passed(gateway.run(asked(family, dtls.cid_record(b"\2abcde"))))
    gateway.configure(filtered("cid = { per_prefix = 1, burst = 2 }"))
    frames = [asked(family, dtls.cid_record(bytes((1 + n % 3,)) + b"abcde")) for n in range(4)]
    assert counted(gateway, frames, Verdict.CID_OVER_PREFIX) == [False, False, True, True]


def test_monitor_counts_a_packet_once(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('mode = "monitor"\nhello = { total = 1, per_node = 1, burst = 1 }'))
    gateway.run(asked(family, HELLO))
    ran = gateway.run(asked(family, HELLO))
    assert ran.action == REDIRECT
    assert {verdict: ran.counted[verdict] for verdict in HELD & ran.verdicts} == {Verdict.HELLO_OVER_TOTAL: 1}


# answers


def verify_request(cookie: bytes) -> bytes:
    return dtls.handshake_record(3, dtls.DTLS_1_0 + bytes((len(cookie),)) + cookie, version=dtls.DTLS_1_0)


COOKIE = bytes(range(20))
FLIGHT = dtls.handshake_record(2, bytes(70), message_seq=1) + dtls.handshake_record(
    11, bytes(600), message_seq=2
)


def test_answers_to_a_stranger_are_as_many_bytes_as_it_may_have(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("amplification = 3"))
    gateway.run(asked(family, HELLO))
    room = 3 * (len(HELLO) + 8)
    part = dtls.handshake_record(2, bytes(75), message_seq=1)
    fits = room // (len(part) + 8)
    ran = [gateway.run(answered(family, part), "lan") for _ in range(fits + 2)]
    assert [held(each, Verdict.UNPROVEN) for each in ran] == [False] * fits + [True] * 2
    # Another port is another stranger, of whom nothing was heard.
    assert held(gateway.run(answered(family, part, port=40001), "lan"), Verdict.UNPROVEN)


def test_the_cookie_proves_an_address_and_another_does_not(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("amplification = 3"))
    for cookie, proven in ((bytes(20), False), (COOKIE, True)):
        gateway.run(asked(family, HELLO))
        assert passed(gateway.run(answered(family, verify_request(COOKIE)), "lan"))
        gateway.run(asked(family, hello(1, cookie)))
        ran = [gateway.run(answered(family, FLIGHT), "lan") for _ in range(5)]
        assert any(held(each, Verdict.UNPROVEN) for each in ran) is not proven


def test_a_session_proves_its_address_by_what_the_node_answers(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("amplification = 1"))
    gateway.run(asked(family, RECORD))
    assert passed(gateway.run(answered(family, dtls.application_data(body=bytes(500))), "lan"))
    assert passed(gateway.run(answered(family, FLIGHT), "lan"))


def test_garbage_of_an_epoch_proves_nothing_by_itself(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("amplification = 1"))
    gateway.run(asked(family, HELLO))
    gateway.run(asked(family, RECORD))
    assert held(gateway.run(answered(family, FLIGHT), "lan"), Verdict.UNPROVEN)


def test_a_node_may_speak_first_in_a_session(gateway: Rig, family: int) -> None:
    gateway.configure(filtered("amplification = 1"))
    assert passed(gateway.run(answered(family, DATA), "lan"))
    assert held(gateway.run(answered(family, FLIGHT), "lan"), Verdict.UNPROVEN)


def test_without_a_limit_nothing_is_asked(gateway: Rig, family: int) -> None:
    gateway.configure(filtered('level = "header"'))
    assert passed(gateway.run(answered(family, FLIGHT), "lan"))
    assert not list(gateway.maps.maps["peers"].keys())


# fragments


def first_fragment(payload: bytes, held_back: int, whole: int | None = None) -> bytes:
    """The first fragment of a datagram over IPv4 that holds all but the last bytes of the payload."""
    client, own = packed(CLIENT[4]), packed(VIP[4])
    segment = udp(client, own, (40000, 5684), payload)
    if whole is not None:
        segment = segment[:4] + whole.to_bytes(2, "big") + segment[6:]
    packet = ipv4(client, own, segment[: len(segment) - held_back], part=0x2000)
    return mac(WAN_MAC) + mac(ROUTER_MAC) + b"\x08\0" + packet


def test_a_first_fragment_is_judged_by_its_header(gateway: Rig) -> None:
    gateway.configure(filtered('level = "record"'))
    long = dtls.application_data(body=bytes(995))
    assert gateway.run(first_fragment(long, 512)).action == REDIRECT
    assert held(gateway.run(first_fragment(b"junk" + long, 516)), Verdict.NOT_DTLS)
    assert held(gateway.run(first_fragment(long, 512, 500)), Verdict.BAD_LENGTH)
    assert held(gateway.run(first_fragment(long, len(long) - 8)), Verdict.BAD_LENGTH)


# changes


def test_a_filter_comes_changes_and_goes_in_one_step(gateway: Rig, family: int) -> None:
    gateway.change(
        filtered('level = "header"\ndrop_source_ports = [1]\ndeny = ["198.51.100.0/24", "2001:db8:c::/48"]')
    )
    assert held(gateway.run(asked(family, HELLO)), Verdict.DENIED)
    number = max(gateway.layout.filters.placed)
    gateway.change(filtered('level = "record"\nallow = ["198.51.100.0/24", "2001:db8:c::/48"]'))
    assert passed(gateway.run(asked(family, HELLO)))
    assert held(gateway.run(asked(family, DNS)), Verdict.NOT_DTLS)
    assert max(gateway.layout.filters.placed) != number
    prefixes = [key for name in TRIES for key in gateway.maps.maps[name].keys()]  # noqa: SIM118
    assert {int.from_bytes(key[4:8], "little") for key in prefixes} == set(gateway.layout.filters.placed)
    gateway.change()
    assert not HELD & gateway.run(asked(family, DNS)).verdicts
    assert not gateway.layout.filters.placed
    assert not any(list(gateway.maps.maps[name].keys()) for name in TRIES)
    assert gateway.layout.filters.rules.taken == gateway.layout.filters.budgets.taken == 1
    assert gateway.layout.filters.port_sets.taken == 0


def test_an_order_fills_no_bucket(gateway: Rig, family: int) -> None:
    text = filtered("hello = { total = 1, per_prefix = 9, burst = 2 }\ncid = { per_node = 1, burst = 2 }")
    gateway.configure(text)
    for _ in range(3):
        gateway.run(asked(family, HELLO))
        gateway.run(asked(family, RECORD))
    gateway.change(text, {("coaps", "n3"): NodeState.DRAINING})
    assert held(gateway.run(asked(family, HELLO)), Verdict.HELLO_OVER_TOTAL)
    assert held(gateway.run(asked(family, RECORD)), Verdict.CID_OVER_NODE)
    gateway.change(text.replace("total = 1", "total = 2"), {("coaps", "n3"): NodeState.DRAINING})
    assert passed(gateway.run(asked(family, HELLO)))


# guards

GUARD = """
[gateway]
name = "edge"
hash_seed = 1
flow_memory = 4096
[[guard]]
name = "server"
interface = "wan"
ports = [5684, "6000-6002"]
[guard.filter]
"""
MINE = {4: "192.0.2.1", 6: "2001:db8::1"}


def guarded(gateway: Rig, family: int, payload: bytes, **where: object) -> Ran:
    frame = asked(family, payload, vip=MINE[family], **where)  # type: ignore[arg-type]
    ran = gateway.run(frame, program=PROGRAM)
    assert ran.action in (DROP, PASS)
    assert ran.frame == frame
    return ran


def test_a_guard_drops_what_is_not_dtls_and_touches_nothing_else(gateway: Rig, family: int) -> None:
    gateway.configure(GUARD + 'level = "record"')
    for port in (5684, 6000, 6001, 6002):
        assert guarded(gateway, family, HELLO, to=port).action == PASS
        ran = guarded(gateway, family, DNS, to=port)
        assert held(ran, Verdict.NOT_DTLS)
        assert ran.per_owner[("", "server", Verdict.NOT_DTLS)] == 1
    for port in (5683, 5685, 5999, 6003, 53, 65535):
        assert guarded(gateway, family, DNS, to=port).action == PASS
    frame = asked(family, DNS, vip=MINE[family])
    assert gateway.run(frame, on="lan", program=PROGRAM).action == PASS


def test_a_guard_leaves_alone_what_is_sent_on(gateway: Rig, family: int) -> None:
    gateway.configure(GUARD + "hello = { total = 1, burst = 1 }")
    for payload in (DNS, HELLO, HELLO, b"junk"):
        frame = asked(family, payload, vip=NODES[family]["n1"])
        ran = gateway.run(frame, program=PROGRAM)
        assert (ran.action, ran.counted) == (PASS, {})
    assert guarded(gateway, family, HELLO).action == PASS
    assert held(guarded(gateway, family, HELLO), Verdict.HELLO_OVER_TOTAL)


def test_a_guard_in_monitor_mode_counts(gateway: Rig, family: int) -> None:
    gateway.configure(GUARD + 'mode = "monitor"')
    ran = guarded(gateway, family, b"junk")
    assert (ran.action, ran.counted) == (PASS, {Verdict.NOT_DTLS: 1})


def test_a_guard_sees_first_fragments_and_options(gateway: Rig) -> None:
    gateway.configure(GUARD + 'level = "record"')
    client, own = packed(CLIENT[4]), packed(MINE[4])
    head = mac(WAN_MAC) + mac(ROUTER_MAC) + b"\x08\0"
    for payload, action in ((DATA + bytes(64), PASS), (b"junk" + bytes(96), DROP)):
        segment = udp(client, own, (40000, 5684), payload)
        first = ipv4(client, own, segment[:64], part=0x2000)
        later = ipv4(client, own, segment[64:], part=8)
        assert gateway.run(head + first, program=PROGRAM).action == action
        assert gateway.run(head + later, program=PROGRAM).action == PASS
    segment = udp(client, own, (40000, 5684), b"junk")
    odd = ipv4(client, own, segment, options=b"\x94\4\0\0")
    assert gateway.run(head + odd, program=PROGRAM).action == DROP


def extended(payload: bytes, chain: list[tuple[int, bytes]], to: int = 5684, vip: str = MINE[6]) -> bytes:
    """A datagram behind extension headers, each a kind and what stands behind its first byte."""
    client, own = packed(CLIENT[6]), packed(vip)
    rest, protocol = udp(client, own, (40000, to), payload), 17
    for kind, content in reversed(chain):
        rest, protocol = bytes((protocol,)) + content + rest, kind
    return mac(WAN_MAC) + mac(ROUTER_MAC) + b"\x86\xdd" + ipv6(client, own, rest, protocol=protocol)


PADDING = 60, b"\0\1\4\0\0\0\0"
LONG = 60, b"\xff" + b"\1\xff" + bytes(255) + (b"\1\xff" + bytes(255)) * 6 + b"\1\xf5" + bytes(245)
FRAGMENT = 44, b"\0\0\6\0\0\0\1"
"""Not a part of anything: of its bits only reserved ones are set."""
UNREAD = {
    "seven headers": [PADDING] * 7,
    "a header behind 1280 bytes": [LONG],
    "a routing header that is not at its end": [(43, b"\0\2\1\0\0\0\0")],
    "a header that is cut off": [*[PADDING] * 3, (60, b"\xff\1\4\0\0\0\0")],
    "the seventh in a first fragment": [(44, b"\0\0\1\0\0\0\1"), *[PADDING] * 6],
}


@pytest.mark.parametrize("chain", UNREAD.values(), ids=UNREAD)
def test_a_guard_is_not_passed_behind_extension_headers(gateway: Rig, chain: list[tuple[int, bytes]]) -> None:
    gateway.configure(GUARD)
    ran = gateway.run(extended(HELLO, chain), program=PROGRAM)
    assert held(ran, Verdict.UNREAD)
    assert ran.per_owner[("", "server", Verdict.UNREAD)] == 1
    sent_on = gateway.run(extended(HELLO, chain, vip=NODES[6]["n1"]), program=PROGRAM)
    assert (sent_on.action, sent_on.counted) == (PASS, {})
    elsewhere = gateway.run(extended(HELLO, chain), on="lan", program=PROGRAM)
    assert (elsewhere.action, elsewhere.counted) == (PASS, {})
    gateway.change(GUARD + 'mode = "monitor"')
    ran = gateway.run(extended(HELLO, chain), program=PROGRAM)
    assert (ran.action, ran.counted) == (PASS, {Verdict.UNREAD: 1})
    # One that drops is enough.
    other = '[[guard]]\nname = "other"\ninterface = "wan"\nports = [7000]\n[guard.filter]\n'
    gateway.change(GUARD + 'mode = "monitor"\n' + other)
    ran = gateway.run(extended(HELLO, chain), program=PROGRAM)
    assert held(ran, Verdict.UNREAD)
    assert ran.per_owner[("", "other", Verdict.UNREAD)] == 1


def test_a_guard_reads_behind_six_extension_headers(gateway: Rig) -> None:
    gateway.configure(GUARD + 'level = "record"')
    for chain in ([PADDING] * 6, [(0, PADDING[1]), FRAGMENT], [(43, b"\0\2\0\0\0\0\0")]):
        assert gateway.run(extended(HELLO, chain), program=PROGRAM).action == PASS
        assert held(gateway.run(extended(b"junk", chain), program=PROGRAM), Verdict.NOT_DTLS)
        assert held(gateway.run(extended(DATA + b"junk", chain), program=PROGRAM), Verdict.NOT_DTLS)
        assert gateway.run(extended(b"junk", chain, to=53), program=PROGRAM).action == PASS


def test_a_guard_looks_behind_the_tags_of_vlan_0_that_the_kernel_takes_off(gateway: Rig, family: int) -> None:
    gateway.configure(GUARD)
    plain = {payload: asked(family, payload, vip=MINE[family]) for payload in (HELLO, b"junk")}

    def tagged(payload: bytes, *tags: str) -> bytes:
        return plain[payload][:12] + bytes.fromhex("".join(tags)) + plain[payload][12:]

    none = "8100e000", "88a80000"
    for tags in ([none[0]], [none[1]], [none[0], none[0]], [none[1], none[0]], [none[0], none[1]]):
        assert gateway.run(tagged(HELLO, *tags), program=PROGRAM).action == PASS
        assert held(gateway.run(tagged(b"junk", *tags), program=PROGRAM), Verdict.NOT_DTLS)
    for tags in (["81000007"], ["88a80007"], [none[0], "81000007"], [*none, "81000007"]):
        ran = gateway.run(tagged(b"junk", *tags), program=PROGRAM)
        assert (ran.action, ran.counted) == (PASS, {})
    assert held(gateway.run(tagged(HELLO, *none, none[0]), program=PROGRAM), Verdict.UNREAD)
    assert gateway.run(tagged(HELLO, *none, none[0]), on="lan", program=PROGRAM).action == PASS


def test_guards_change_in_one_step_and_keep_their_counters(gateway: Rig, family: int) -> None:
    gateway.configure(GUARD)
    guarded(gateway, family, b"junk")
    gateway.change(GUARD + "dtls13 = true")
    assert gateway.totals()[("", "server", Verdict.NOT_DTLS)] == 1
    assert guarded(gateway, family, b"\x28\0\1" + bytes(16)).action == PASS
    assert held(guarded(gateway, family, b"junk"), Verdict.NOT_DTLS)
    gateway.change(GUARD.replace("5684", "5000") + "dtls13 = true")
    assert guarded(gateway, family, b"junk").action == PASS
    assert held(guarded(gateway, family, b"junk", to=5000), Verdict.NOT_DTLS)
    assert gateway.totals()[("", "server", Verdict.NOT_DTLS)] == 3
    gateway.change()
    assert guarded(gateway, family, b"junk", to=5000).action == PASS
    assert not list(gateway.maps.maps["guarded"].keys())
    assert gateway.layout.filters.guard_tables.taken == 0
