"""Checks of nodes that have a tunnel ask the VIP through it: one without the VIP, or the tunnel's end, fails.

The nodes are behind a router, which does not know the VIPs: what is not within the tunnel never arrives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.e2e.programs import PORTS, needs, running
from tests.e2e.test_health import POINTSMAN, listening, server
from tests.e2e.test_health_vips import BOUND, asked, prefix, probed, service_file
from tests.prog import sums

from pointsman.config import load
from pointsman.kernel import decap
from pointsman.lab.build import Lab
from pointsman.lab.capture import Frame
from pointsman.lab.demo_site import FAMILIES, Site
from pointsman.lab.topology import VIP, Topology
from pointsman.plan.node_setup import Wanted, wanted_of
from pointsman.reconcile import node_side

pytestmark = pytest.mark.netns

NODES = (("10.9.0.1", "fd00:9::1"), ("10.9.0.2", "fd00:9::2"))
GUE_PORT = 6099
ETHER = {0x0800: 4, 0x86DD: 6}
UDP = 'type = "udp"\nsend = "ping"\nexpect = "pong"'
PROBE, ENGINE = "pref 28783", "pref 28782"


@pytest.fixture(scope="module", params=[False, True], ids=["checksums-finished", "checksums-left-to-links"])
def far_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    worker = getattr(request.config, "workerinput", {}).get("workerid", "main")
    name = f"t{os.getpid()}-{worker}{'-o' if request.param else ''}"
    topology = Topology(
        name, nodes=2, nats=0, node_addresses=NODES, router=True, direct=True, offload=request.param
    )
    with Lab.up(topology) as built:
        yield built


@pytest.fixture
def far(far_lab: Lab) -> Iterator[Site]:
    found = Site(far_lab, Path(), "xdp")
    yield found
    with far_lab.inside("n1"):
        node_side.remove("s/n1")
    found.pointsman("down")
    assert far_lab.run("gw", ["tc", "qdisc", "show"]).stdout.count("clsact") == 0


@pytest.fixture(params=[False, True], ids=["ipip", "gue"])
def gue(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def tunnelled(site: Site, protocol: str, port: int, check: str, *, gue: bool) -> str:
    own = ", ".join(f'"{site.lab.address("gw", family, "lan0")}"' for family in FAMILIES)
    how = f'\nencapsulation = "gue"\ngue_port = {GUE_PORT}' if gue else ""
    return service_file(site, protocol, port, check, f'forward = "tunnel"\nsource = [{own}]{how}')


def by_own_address(file: str) -> str:
    """The same file, but that its checks ask the node's own address."""
    text = Path(file).read_text()
    text = text.replace('forward = "tunnel"\n', "").replace(
        f'encapsulation = "gue"\ngue_port = {GUE_PORT}\n', ""
    )
    own = Path(file).with_name("own.toml")
    own.write_text("\n".join(line for line in text.splitlines() if not line.startswith("source = ")) + "\n")
    return str(own)


def set_up(site: Site, file: str) -> Wanted:
    """Make n1 the file's node."""
    service = load(Path(file)).gateway.services[0]
    node = service.node("n1")
    assert node is not None
    wanted = wanted_of(service, node)
    assert wanted is not None
    with site.lab.inside("n1"):
        node_side.apply("s/n1", wanted)
    return wanted


def results(site: Site, file: str) -> list[bool | None]:
    found = [one["ok"] for one in asked(site, file)]
    assert filters(site, PROBE) == ""
    return found


def filters(site: Site, which: str) -> str:
    """The filters of a priority on any link of the gateway."""
    shown = (
        site.lab.run("gw", ["tc", "filter", "show", "dev", link, "egress"]).stdout
        for link in ("lan0", "wan0")
    )
    return "\n".join(line for each in shown for line in each.splitlines() if which in line)


@contextmanager
def serving(site: Site, protocol: str) -> Iterator[None]:
    """A server on n1 that answers at its own addresses and at the VIPs."""
    with ExitStack() as stack:
        if protocol == "tcp":
            stack.enter_context(running(site.lab, "nginx", ["n1"]))
        else:
            addresses = [*VIP.values(), *NODES[0]]
            for count, address in enumerate(addresses, 1):
                argv = [sys.executable, "-c", BOUND, address, "5300"]
                stack.enter_context(server(site.lab, argv, listening(site.lab, 5300, "u", count)))
        yield


def port_of(protocol: str) -> int:
    return PORTS["nginx"] if protocol == "tcp" else 5300


FINISHED = pytest.mark.parametrize(
    "far_lab", [False], ids=["checksums-finished"], indirect=True, scope="module"
)
CHECKS = pytest.mark.parametrize(
    ("protocol", "check"),
    [("tcp", 'type = "tcp"'), ("tcp", 'type = "http"\nbody = "^n1$"'), ("udp", UDP)],
    ids=["tcp", "http", "udp"],
)


@FINISHED
@pytest.mark.parametrize(("protocol", "check"), [("tcp", 'type = "tcp"'), ("udp", UDP)], ids=["tcp", "udp"])
def test_a_node_without_its_vip_or_its_end_fails(far: Site, protocol: str, check: str, *, gue: bool) -> None:
    file = tunnelled(far, protocol, port_of(protocol), f'{check}\ntimeout = "2s"', gue=gue)
    far.pointsman("apply", file)
    wanted = set_up(far, file)
    own = by_own_address(file)
    with serving(far, protocol):
        for _ in range(2):  # again from the same port
            assert results(far, file) == [True, True]
        for family in FAMILIES:
            far.lab.run("n1", ["ip", "addr", "del", prefix(family), "dev", "lo"])
            assert results(far, file) == [False, family == 4]
        assert [one["ok"] for one in probed(far, own)] == [True, True]
        set_up(far, file)
        assert results(far, file) == [True, True]
        with far.lab.inside("n1"):
            decap.forget(node_side.key_of(tunnel) for tunnel in wanted.tunnels)
        found = asked(far, file)
        assert [(one["ok"], one["said"]) for one in found] == [(False, "no answer in time")] * 2
        assert [one["ok"] for one in probed(far, own)] == [True, True]


def ends(packet: bytes, family: int) -> tuple[str, str]:
    first, size = (12, 4) if family == 4 else (8, 16)
    parts = (packet[at : at + size] for at in (first, first + size))
    source, to = (str(ip_address(part)) for part in parts)
    return source, to


def protocol_of(packet: bytes, family: int) -> int:
    return packet[9 if family == 4 else 6]


def to_node_or_vip(frames: Iterable[Frame]) -> list[tuple[int, Frame]]:
    """What was sent to the node or a VIP but for ICMP, with its family."""
    theirs = {*VIP.values(), *NODES[0]}
    return [
        (family, frame)
        for frame in frames
        if frame.outgoing
        and (family := ETHER.get(frame.ethertype)) is not None
        and ends(frame.packet, family)[1] in theirs
        and protocol_of(frame.packet, family) not in (1, 58)
    ]


@CHECKS
def test_all_that_a_check_sends_is_within_the_tunnel(
    far: Site, protocol: str, check: str, *, gue: bool
) -> None:
    file = tunnelled(far, protocol, port_of(protocol), f'{check}\ntimeout = "2s"', gue=gue)
    far.pointsman("apply", file)
    set_up(far, file)
    with serving(far, protocol), far.lab.capture("gw", "lan0") as lan:
        assert results(far, file) == [True, True]
    sent = to_node_or_vip(lan)
    assert {family for family, _ in sent} == set(FAMILIES)
    for family, frame in sent:
        source, to = ends(frame.packet, family)
        assert (source, to) == (far.lab.address("gw", family, "lan0"), NODES[0][family == 6])
        outer = 20 if family == 4 else 40
        inner = frame.packet[outer:]
        if gue:
            assert protocol_of(frame.packet, family) == 17
            assert int.from_bytes(inner[2:4], "big") == GUE_PORT
            assert int.from_bytes(inner[4:6], "big") == len(inner)
            inner = inner[8:]
        else:
            assert protocol_of(frame.packet, family) == {4: 4, 6: 41}[family]
        assert ends(inner, family) == (source, VIP[family])
        assert protocol_of(inner, family) == {"tcp": 6, "udp": 17}[protocol]
        if frame.checksum_ready:
            assert not sums.wrong(frame.data)
            assert not sums.wrong(frame.data[:14] + inner)


def test_a_request_of_many_segments_fits(far: Site, *, gue: bool) -> None:
    check = f'type = "http"\npath = "/{"x" * 1999}"\nbody = "^n1$"\ntimeout = "2s"'
    file = tunnelled(far, "tcp", PORTS["nginx"], check, gue=gue)
    far.pointsman("apply", file)
    set_up(far, file)
    with serving(far, "tcp"), far.lab.capture("r1", "far0") as between:
        assert results(far, file) == [True, True]
    if not far.lab.topology.offload:  # else the link cuts up what is sent, and no frame is seen before
        assert max(len(frame.data) for frame in between if frame.outgoing) <= 1280 + 14


def test_a_datagram_of_the_largest_size_fits(far: Site, *, gue: bool) -> None:
    check = f'type = "udp"\nsend = "{"x" * 1200}"\nexpect = "pong"\ntimeout = "2s"'
    file = tunnelled(far, "udp", 5300, check, gue=gue)
    far.pointsman("apply", file)
    set_up(far, file)
    with serving(far, "udp"):
        assert results(far, file) == [True, True]


@FINISHED
def test_answers_may_come_by_the_link_of_the_address_that_asks(far: Site, *, gue: bool) -> None:
    """From wan0's address, by lan0; the nodes' own links lead to it past the router."""
    wan = [far.lab.address("gw", family, "wan0") for family in FAMILIES]
    check = f'{UDP}\ntimeout = "2s"\nsource = ["{wan[0]}", "{wan[1]}"]'
    file = tunnelled(far, "udp", 5300, check, gue=gue)
    far.pointsman("apply", file)
    set_up(far, file)
    with serving(far, "udp"), far.lab.capture("gw", "wan0", outgoing=False) as back:
        assert results(far, file) == [True, True]
    came = {
        ends(frame.packet, family) for frame in back if (family := ETHER.get(frame.ethertype)) is not None
    }
    assert {(VIP[4], wan[0]), (VIP[6], wan[1])} <= came


@FINISHED
def test_where_the_machine_refuses_the_check_is_not_tried(far: Site) -> None:
    """Not held against the node; by dsr, which needs no program, it would be asked as ever."""
    needs("setpriv")
    file = tunnelled(far, "udp", 5300, UDP, gue=False)
    without = ["setpriv", "--bounding-set", "-sys_admin,-bpf"]
    found = [
        probed(far, file, without),
        probed(far, tunnelled(far, "udp", 5300, f'{UDP}\ninterface = "no0"', gue=False)),
    ]
    assert [[one["ok"] for one in each] for each in found] == [[None, None]] * 2
    assert {one["said"] for one in found[0]} == {
        "not tried: the tunnel's filter on lan0: cannot load checks.bpf.o: "
        "Operation not permitted; run as root (CAP_BPF, CAP_NET_ADMIN)"
    }
    assert {one["said"] for one in found[1]} == {"not tried: no way to the node"}
    assert "clsact" not in far.lab.run("gw", ["tc", "qdisc", "show"]).stdout


def eventually(what: str, found: Callable[[], bool], *, limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@FINISHED
@pytest.mark.parametrize("made", [True, False], ids=["clsact-made", "clsact-found"])
def test_what_a_killed_one_left_is_replaced_and_then_goes(far: Site, made: bool) -> None:
    lab = far.lab
    file = tunnelled(far, "udp", 5300, UDP, gue=False)
    set_up(far, file)
    if not made:
        lab.run("gw", ["tc", "qdisc", "add", "dev", "lan0", "clsact"])
    before = lab.run("gw", ["tc", "qdisc", "show"]).stdout
    with serving(far, "udp"):
        watching = lab.popen("gw", [*POINTSMAN, "probe", "--watch", file])
        eventually("the filter is there", lambda: PROBE in filters(far, PROBE))
        watching.kill()
        watching.wait(20)
        assert PROBE in filters(far, PROBE)
        assert [one["ok"] for one in asked(far, file)] == [True, True]
    assert filters(far, PROBE) == ""
    assert lab.run("gw", ["tc", "qdisc", "show"]).stdout == before
    if not made:
        lab.run("gw", ["tc", "qdisc", "del", "dev", "lan0", "clsact"])


@FINISHED
def test_the_daemon_and_probe_do_not_disturb_each_other(far: Site) -> None:
    lab = far.lab
    file = tunnelled(far, "udp", 5300, f'{UDP}\ninterval = "1s"\ntimeout = "1s"', gue=True)
    set_up(far, file)
    with serving(far, "udp"):
        daemon = lab.popen("gw", [*POINTSMAN, "serve", file])
        try:
            eventually("the daemon's filter is there", lambda: ENGINE in filters(far, ENGINE))
            for _ in range(2):
                assert results(far, file) == [True, True]
                assert ENGINE in filters(far, ENGINE)

            def healthy() -> bool:
                (service,) = far.status()["services"]
                checks = [
                    check for node in service["nodes"] if node["name"] == "n1" for check in node["checks"]
                ]
                return [check["healthy"] for check in checks] == [True, True]

            eventually("the daemon finds n1 healthy", healthy)
            lab.run("gw", ["tc", "qdisc", "del", "dev", "lan0", "clsact"])
            assert filters(far, ENGINE) == ""
            lab.run("gw", ["nft", "flush", "ruleset"])
            tables = ["nft", "list", "tables", "netdev"]
            eventually("the table is back", lambda: "pointsman_health" in lab.run("gw", tables).stdout)
            eventually("so is the filter", lambda: ENGINE in filters(far, ENGINE))
            eventually("the daemon still finds n1 healthy", healthy)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
    assert filters(far, ENGINE) == ""
