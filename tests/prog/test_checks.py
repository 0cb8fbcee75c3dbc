"""What the program for health checks makes of frames, by BPF_PROG_TEST_RUN: what the node's end takes off again."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.prog import sums
from tests.prog.frames import ETHER, ipv4, ipv6, mac, packed, tcp, udp
from tests.prog.test_decap import GATEWAY, NODE, PORT, VIP
from tests.prog.test_decap import loaded as loaded  # the node's end
from tests.prog.test_decap import run as take_off

from pointsman.health.edge.tunnels import MAIN, OBJECT, WAYS
from pointsman.health.through_tunnel import ASKED, WAY
from pointsman.kernel.bpf import Map, Object, Program
from pointsman.plan.xdp.abi import wire_address, wire_port

pytestmark = pytest.mark.netns

GO_ON = 0xFFFFFFFF
CHECK = 61007
LINK = mac("02:00:00:00:00:01") + mac("02:00:00:00:00:02")


@pytest.fixture(scope="module")
def checks() -> Iterator[tuple[Program, Map]]:
    with Object.open(Path(str(resources.files("pointsman") / "programs" / OBJECT))) as built:
        built.load()
        with built.program(MAIN) as program, built.map(WAYS) as ways:
            yield program, ways


@pytest.fixture(params=[0, PORT], ids=["ipip", "gue"])
def gue(request: pytest.FixtureRequest, checks: tuple[Program, Map]) -> int:
    """GUE's port in the elements of both families, 0: none."""
    for family in (4, 6):
        vip, source, node = (wire_address(ip_address(ends[family])) for ends in (VIP, GATEWAY, NODE))
        checks[1].update(ASKED.pack(vip, wire_port(CHECK)), WAY.pack(source, node, wire_port(request.param)))
    return int(request.param)


def framed(
    family: int,
    *,
    to: str | None = None,
    port: int = CHECK,
    protocol: int = 17,
    size: int = 20,
    options: bytes = b"",
    tos: int = 0,
) -> bytes:
    source, vip = packed(GATEWAY[family]), packed(to or VIP[family])
    ports, payload = (port, 5684), bytes(range(size % 256)) + bytes(size - size % 256)
    rest = udp(source, vip, ports, payload) if protocol != 6 else tcp(source, vip, ports, payload, 2)
    if family == 4:
        packet = ipv4(source, vip, rest, protocol=protocol, options=options, tos=tos)
    else:
        packet = ipv6(source, vip, rest, protocol=protocol, label=tos << 20)
    return LINK + ETHER[family].to_bytes(2, "big") + packet


def run(checks: tuple[Program, Map], frame: bytes) -> tuple[int, bytes]:
    done = checks[0].test_run(frame)
    return done.retval, done.data


@pytest.mark.parametrize("protocol", [17, 6], ids=["udp", "tcp"])
@pytest.mark.parametrize("size", [0, 1, 1200])
def test_what_a_check_sends_is_put_into_the_tunnel_and_comes_out_of_it(
    checks: tuple[Program, Map], loaded: tuple[Program, Map], family: int, gue: int, protocol: int, size: int
) -> None:
    frame = framed(family, protocol=protocol, size=size)
    action, sent = run(checks, frame)
    assert action == GO_ON
    assert len(sent) == len(frame) + {4: 20, 6: 40}[family] + (8 if gue else 0)
    assert not sums.wrong(sent)
    assert take_off(loaded, sent) == (2, frame)


def test_the_outer_header(checks: tuple[Program, Map], family: int, gue: int) -> None:
    frame = framed(family, tos=0xB9)
    _, sent = run(checks, frame)
    assert sent[:14] == frame[:14]
    outer, inner = sent[14:], frame[14:]
    if family == 4:
        assert outer[1] == 0xB9
        assert outer[6:10] == bytes((0x40, 0, 64, 17 if gue else 4))
        assert outer[12:20] == packed(GATEWAY[4]) + packed(NODE[4])
    else:
        assert outer[:4] == (6 << 28 | 0xB9 << 20 | CHECK).to_bytes(4, "big")
        assert outer[6:8] == bytes((17 if gue else 41, 64))
        assert outer[8:40] == packed(GATEWAY[6]) + packed(NODE[6])
    rest = outer[20 if family == 4 else 40 :]
    if gue:
        assert rest[:8] == b"".join(
            number.to_bytes(2, "big") for number in (0xC000 | CHECK & 0x3FFF, PORT, 8 + len(inner), 0)
        )
        rest = rest[8:]
    assert rest == inner


def test_options_are_no_hindrance(checks: tuple[Program, Map], gue: int) -> None:
    frame = framed(4, options=b"\x01" * 8)
    action, sent = run(checks, frame)
    assert (action, sent[-len(frame) + 14 :]) == (GO_ON, frame[14:])
    assert len(sent) == len(frame) + 20 + (8 if gue else 0)


@pytest.mark.usefixtures("gue")
def test_all_else_stays_as_it_is(checks: tuple[Program, Map], family: int) -> None:
    frame = framed(family)
    for other in (
        framed(family, port=CHECK + 1),
        framed(family, to=NODE[family]),
        framed(family, protocol=132),
        frame[:12] + b"\x08\x06" + frame[14:],
        LINK + ETHER[4].to_bytes(2, "big") + ipv4(frame[26:30], packed(VIP[4]), frame[34:], part=7),
        *(frame[: 14 + {4: 20, 6: 40}[family] + more] for more in range(2)),  # the kernel runs none shorter
    ):
        assert run(checks, other) == (GO_ON, other)
