"""What the node's end of tunnels makes of frames, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.prog import sums
from tests.prog.frames import ETHER, ipv4, ipv6, mac, packed, udp

from pointsman.kernel.bpf import Map, Object, Program
from pointsman.kernel.decap import ACCEPTED, MAIN, NO_PACKETS, OBJECT
from pointsman.plan.node_setup import Tunnel
from pointsman.reconcile.node_side import key_of

pytestmark = pytest.mark.netns

PASS, DROP = 2, 1
GATEWAY, NODE = {4: "10.0.0.1", 6: "fd00::1"}, {4: "10.0.0.11", 6: "fd00::11"}
VIP, CLIENT = {4: "192.0.2.10", 6: "2001:db8::10"}, {4: "198.51.100.7", 6: "2001:db8:c::7"}
PORT = 6080


def tunnel(family: int, port: int) -> Tunnel:
    return Tunnel(ip_address(GATEWAY[family]), ip_address(NODE[family]), ip_address(VIP[family]), port)


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[Program, Map]]:
    with Object.open(Path(str(resources.files("pointsman") / "programs" / OBJECT))) as built:
        built.load()
        with built.program(MAIN) as program, built.map(ACCEPTED) as accepted:
            for family in (4, 6):
                for port in (0, PORT):
                    accepted.update(key_of(tunnel(family, port)), NO_PACKETS)
            yield program, accepted


def run(loaded: tuple[Program, Map], frame: bytes) -> tuple[int, bytes]:
    done = loaded[0].test_run(frame)
    return done.retval, done.data


def inner(family: int, *, vip: str | None = None, ecn: int = 0) -> bytes:
    source, to = packed(CLIENT[family]), packed(vip or VIP[family])
    segment = udp(source, to, (40000, 5684), b"what the client says")
    if family == 4:
        return ipv4(source, to, segment, tos=ecn)
    return ipv6(source, to, segment, label=ecn << 20)


def framed(
    family: int,
    packet: bytes,
    *,
    gue: bool,
    source: str | None = None,
    to: str | None = None,
    port: int = PORT,
    ecn: int = 0,
    part: int = 0,
) -> bytes:
    ends = packed(source or GATEWAY[family]), packed(to or NODE[family])
    protocol = {4: 4, 6: 41}[family]
    if gue:
        size = (8 + len(packet)).to_bytes(2, "big")
        packet = b"\xc0\x01" + port.to_bytes(2, "big") + size + b"\0\0" + packet
        protocol = 17
    if family == 4:
        outer = ipv4(*ends, packet, protocol=protocol, tos=ecn, part=part or 0x4000)
    else:
        outer = ipv6(*ends, packet, protocol=protocol, label=ecn << 20)
    return mac("02:00:00:00:00:01") + mac("02:00:00:00:00:02") + ETHER[family].to_bytes(2, "big") + outer


@pytest.mark.parametrize("gue", [False, True], ids=["ipip", "gue"])
def test_the_outer_header_comes_off_and_nothing_else_changes(
    loaded: tuple[Program, Map], family: int, *, gue: bool
) -> None:
    packet = inner(family)
    frame = framed(family, packet, gue=gue)
    assert run(loaded, frame) == (PASS, frame[:14] + packet)


@pytest.mark.parametrize("gue", [False, True], ids=["ipip", "gue"])
def test_what_is_not_from_a_gateway_for_a_vip_stays_as_it_is(
    loaded: tuple[Program, Map], family: int, *, gue: bool
) -> None:
    other = {4: "10.0.0.99", 6: "fd00::99"}[family]
    packet = inner(family)
    for frame in (
        framed(family, packet, gue=gue, source=other),
        framed(family, packet, gue=gue, to=other),
        framed(family, inner(family, vip=other), gue=gue),
        framed(family, packet, gue=True, port=PORT + 1),
        framed(family, inner({4: 6, 6: 4}[family]), gue=gue),
        *(framed(family, packet, gue=gue)[:size] for size in range(14, 54)),
    ):
        assert run(loaded, frame) == (PASS, frame)


def test_outer_fragments_stay_as_they_are(loaded: tuple[Program, Map]) -> None:
    for part in (0x2000, 0x2001, 1):
        frame = framed(4, inner(4), gue=False, part=part)
        assert run(loaded, frame) == (PASS, frame)


@pytest.mark.parametrize("outside", range(4))
@pytest.mark.parametrize("inside", range(4))
def test_congestion_is_told_inside(
    loaded: tuple[Program, Map], family: int, inside: int, outside: int
) -> None:
    """RFC 6040 section 4.2: congestion met in the tunnel marks what can be marked, and drops what cannot."""
    frame = framed(family, inner(family, ecn=inside), gue=False, ecn=outside)
    action, after = run(loaded, frame)
    if (inside, outside) == (0, 3):
        assert action == DROP
        return
    assert action == PASS
    assert after == frame[:14] + inner(family, ecn=3 if outside == 3 else inside)
    assert not sums.wrong(after)


def test_packets_are_counted(loaded: tuple[Program, Map], family: int) -> None:
    key = key_of(tunnel(family, 0))
    before = int.from_bytes(loaded[1].lookup(key) or b"", "little")
    run(loaded, framed(family, inner(family), gue=False))
    assert int.from_bytes(loaded[1].lookup(key) or b"", "little") == before + 1
