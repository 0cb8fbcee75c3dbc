"""What is written into the map of the programs that put checks into tunnels."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.unit.health.gateways import VIPS, gateway, service
from tests.unit.plan.xdp import btf

from pointsman.health.targets import Target, watched
from pointsman.health.through_tunnel import ASKED, SEGMENT, WAY, elements
from pointsman.model import Check, CheckKind, Encapsulation, Forward, PortRange, Sources, Tunnel

OBJECT = Path(__file__).parents[3] / "src/pointsman/programs/checks.bpf.o"
NODES = {"n1": ("10.0.0.1", "fd00::1")}
SOURCES = tuple(map(ip_address, ("10.0.0.254", "fd00::254", "10.0.0.253")))


def targets(tunnel: Tunnel, *kinds: CheckKind) -> list[Target]:
    one = service([Check(kind) for kind in kinds or (CheckKind.TCP,)], NODES, families=(4, 6))
    sources = Sources(SOURCES, PortRange(1, 2))
    one = replace(one, forward=Forward.TUNNEL, tunnel=tunnel, sources=sources)
    return [target for node in watched(gateway(one)) for target in node.targets]


def test_the_vip_is_asked_through_the_tunnel_of_clients() -> None:
    four, six = targets(Tunnel(Encapsulation.GUE, 6081))
    assert [str(four), str(six)] == ["192.0.2.1:80 at 10.0.0.1", "[2001:db8::1]:80 at fd00::1"]
    assert four.tunnel is not None
    assert (four.tunnel.source, four.tunnel.port) == (SOURCES[0], 6081)
    assert six.tunnel is not None
    assert six.tunnel.source == SOURCES[1]
    for kind in (CheckKind.ICMP, CheckKind.SCRIPT):
        assert all(one.vip is None and one.tunnel is None for one in targets(Tunnel(), kind))


def test_other_tunnels_are_other_targets() -> None:
    found = {*targets(Tunnel()), *targets(Tunnel(Encapsulation.GUE)), *targets(Tunnel(Encapsulation.GUE, 1))}
    assert len(found) == 6


def test_elements_are_by_vip_and_port_and_say_the_outer_header() -> None:
    four, six = targets(Tunnel(Encapsulation.GUE, 6080))
    mapped = bytes(10) + b"\xff\xff"
    assert elements({four: 61000, six: 61001}) == {
        mapped + VIPS[4].packed + b"\xee\x48\0\0": (
            mapped + SOURCES[0].packed + mapped + ip_address("10.0.0.1").packed + b"\x17\xc0\0\0"
        ),
        VIPS[6].packed + b"\xee\x49\0\0": (
            SOURCES[1].packed + ip_address("fd00::1").packed + b"\x17\xc0\0\0"
        ),
    }
    (plain, _) = targets(Tunnel())
    assert [value[-4:] for value in elements({plain: 61000}).values()] == [bytes(4)]


def test_targets_without_a_tunnel_have_no_element() -> None:
    (target, _) = targets(Tunnel())
    assert elements({replace(target, tunnel=None): 61000}) == {}


def test_segments_fit_with_every_header() -> None:
    assert SEGMENT + 20 + 40 + 8 + 40 <= 1280


@pytest.mark.skipif(not OBJECT.exists(), reason="`make programs` has not been run")
def test_the_structs_are_those_of_the_programs() -> None:
    types = btf.read(OBJECT)
    assert types.struct("asked") == (ASKED.size, {"vip": (0, 16), "port": (16, 2), "zero": (18, 2)})
    members = {"source": (0, 16), "node": (16, 16), "port": (32, 2), "zero": (34, 2)}
    assert types.struct("way") == (WAY.size, members)
