"""An unmodified server on every address answers by the uplink, and from the address, that it was asked at."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conformance.evidence import wait_for
from tests.conformance.servers import (
    choosing,
    connecting,
    dnsmasq,
    dtls,
    echo,
    echoing,
    handshakes,
    in_cgroup,
    resolves,
    start,
)
from tests.conformance.test_multihome_address import everywhere, kept
from tests.conformance.uplinks import POINTSMAN, UPLINKS, Uplinks, address, answered, router, uplinks

from pointsman.kernel import bpffs, cgroups, netns

PORTS = {"wild4": 7004, "wild6": 7006, "dual": 7010, "connected4": 7014, "connected6": 7016, "chosen4": 7024}
PORTS |= {"chosen6": 7026, "dns": 53, "dtls4": 5684, "dtls6": 5686}
SECOND = {4: "192.0.2.19", 6: "2001:db8:a:1::9"}
"""More addresses of up1, of which a server may choose one."""


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    try:
        folder = cgroups.root() / f"pointsman-test-{os.getpid()}"
        folder.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    yield folder
    for _ in range(50):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


@pytest.fixture(scope="module")
def lab(cgroup: Path) -> Iterator[Uplinks]:
    with uplinks() as found:
        starter = start(found, cgroup)
        echo(starter, "0.0.0.0", PORTS["wild4"])  # noqa: S104 - in a namespace of its own
        echo(starter, "::", PORTS["wild6"], "only6")
        echo(starter, "::", PORTS["dual"])
        connecting(starter, "0.0.0.0", PORTS["connected4"])  # noqa: S104
        connecting(starter, "::", PORTS["connected6"])
        choosing(starter, SECOND[4], PORTS["chosen4"])
        choosing(starter, SECOND[6], PORTS["chosen6"])
        dnsmasq(starter, PORTS["dns"])
        dtls(starter, f"0.0.0.0:{PORTS['dtls4']}")
        dtls(starter, f"[::]:{PORTS['dtls6']}")
        found.wait_bound(PORTS.values())
        yield found


@pytest.fixture
def served(lab: Uplinks) -> Iterator[Uplinks]:
    yield lab
    lab.pointsman("down")


@pytest.fixture
def more_addresses(lab: Uplinks) -> Iterator[None]:
    """Two on up1, of which a server may choose."""
    for family, length in ((4, 28), (6, 64)):
        options = ["nodad"] if family == 6 else []
        lab.run("srv", ["ip", "address", "add", f"{SECOND[family]}/{length}", "dev", "up1", *options])
    yield
    for family, length in ((4, 28), (6, 64)):
        lab.run("srv", ["ip", "address", "del", f"{SECOND[family]}/{length}", "dev", "up1"])


def file(cgroup: Path, *, ports: str = "", uplinks_of: int = 3) -> str:
    given = ports or str(list(PORTS.values()))
    lines = [
        '[gateway]\nname = "edge"\nhash_seed = 1',
        f'[[multihome]]\nname = "servers"\nmode = "socket"\nports = {given}\ncgroup = "{cgroup.name}"',
    ]
    for number in range(uplinks_of):
        lines.append(f'[[multihome.uplink]]\ninterface = "up{number}"')
        lines.append(f'gateway = ["{router(number, 4)}", "{router(number, 6)}"]')
    return "\n".join([*lines, ""])


def pins(lab: Uplinks) -> Path | None:
    with lab.inside("srv"):
        return bpffs.existing(f"multihome-netns-{netns.cookie()}")


def by(lab: Uplinks, four: str, six: str, *, tries: int = 4) -> list[tuple[int, int]]:
    ports = {4: PORTS[four], 6: PORTS[six]}
    return [
        (own, family) for own, family in everywhere() if lab.answers(own, family, ports[family], tries=tries)
    ]


def test_real_servers_on_every_address_answer_from_the_one_that_was_asked(
    served: Uplinks, cgroup: Path
) -> None:
    before = kept(served)
    assert by(served, "wild4", "wild6", tries=2) == [(0, 4), (0, 6)], (
        "the control: by the default route alone"
    )
    assert not resolves(served, 1, 4, PORTS["dns"], tries=1)
    plan = served.pointsman("plan", str(served.file(file(cgroup)))).stdout
    assert f"multihome servers: programs on the control group {cgroup.name}: new" in plan
    served.apply(file(cgroup))
    assert by(served, "wild4", "wild6") == everywhere()
    assert by(served, "dual", "dual") == everywhere(), "also IPv4 that is mapped into IPv6"
    for own, family in everywhere():
        assert resolves(served, own, family, PORTS["dns"])
        assert handshakes(served, own, family, PORTS[f"dtls{family}"])
    assert "nothing to change" in served.apply(file(cgroup)).stdout
    assert (
        f"multihome servers: by socket {cgroup.name}, at up0, up1, up2" in served.pointsman("status").stdout
    )
    served.pointsman("down")
    assert kept(served) == before
    assert pins(served) is None
    assert by(served, "wild4", "wild6", tries=2) == [(0, 4), (0, 6)]


def test_a_server_that_connects_its_sockets_answers_likewise(served: Uplinks, cgroup: Path) -> None:
    assert not served.answers(1, 4, PORTS["connected4"], tries=1), "the control"
    served.apply(file(cgroup))
    for own, family in everywhere():
        port = PORTS[f"connected{family}"]
        with served.asked(own, family) as handle:
            assert answered(handle, own, family, port)


@pytest.mark.usefixtures("more_addresses")
def test_the_source_that_a_server_names_itself_is_kept(served: Uplinks, cgroup: Path) -> None:
    served.apply(file(cgroup))
    for family in (4, 6):
        port = PORTS[f"chosen{family}"]
        with served.asked(1, family) as handle:
            handle.sendto(b"hello", (address(1, family), port))
            assert handle.recvfrom(100)[1][:2] == (SECOND[family], port)


@pytest.mark.usefixtures("more_addresses")
def test_it_answers_from_any_address_of_the_uplink_and_on_large_datagrams(
    served: Uplinks, cgroup: Path
) -> None:
    served.apply(file(cgroup))
    for family in (4, 6):
        port = PORTS[f"wild{family}"]
        content = os.urandom(6000)  # in fragments
        with served.asked(1, family) as handle:
            handle.sendto(content, (SECOND[family], port))
            payload, source = handle.recvfrom(65535)
            assert (payload, source[:2]) == (content, (SECOND[family], port))


def test_an_uplink_whose_prefix_is_named_may_change_its_address(served: Uplinks, cgroup: Path) -> None:
    text = file(cgroup).replace('interface = "up1"', 'interface = "up1"\naddress = "192.0.2.16/28"')
    served.run("srv", ["sysctl", "-qw", "net.ipv4.conf.up1.promote_secondaries=1"])  # as systemd does
    served.apply(text)
    served.run("srv", ["ip", "address", "add", f"{SECOND[4]}/28", "dev", "up1"])
    served.run("srv", ["ip", "address", "del", f"{address(1, 4)}/28", "dev", "up1"])
    try:
        with served.asked(1, 4) as handle:
            handle.sendto(b"hello", (SECOND[4], PORTS["wild4"]))
            assert handle.recvfrom(100) == (b"hello", (SECOND[4], PORTS["wild4"]))
    finally:
        served.run("srv", ["ip", "address", "add", f"{address(1, 4)}/28", "dev", "up1"])
        served.run("srv", ["ip", "address", "del", f"{SECOND[4]}/28", "dev", "up1"])


def test_other_programs_of_the_machine_are_left_alone(served: Uplinks, cgroup: Path) -> None:
    served.apply(file(cgroup, ports=f"[{PORTS['wild4']}]"))
    echo(start(served), "0.0.0.0", 4007)  # noqa: S104 - outside of the control group
    served.wait_bound([4007])
    assert [own for own in UPLINKS if served.answers(own, 4, PORTS["wild4"])] == list(UPLINKS)
    assert [own for own in UPLINKS if served.answers(own, 4, 4007, tries=1)] == [0]
    assert [own for own in UPLINKS if served.answers(own, 4, PORTS["dual"], tries=1)] == [0], (
        "nor other ports"
    )
    done = served.apply(file(cgroup))
    assert "multihome servers: ports or uplinks changed" in done.stdout
    assert [own for own in UPLINKS if served.answers(own, 4, PORTS["dual"])] == list(UPLINKS)


def test_a_control_group_that_is_gone_is_told_and_one_that_came_anew_is_attached_to(
    served: Uplinks, cgroup: Path
) -> None:
    own = cgroup.with_name(f"{cgroup.name}-again")
    done = served.pointsman("apply", str(served.file(file(own, ports="[4444]"))), check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: multihome servers: there is no control group {own.name}; start the server first"
    ]
    for _ in range(2):
        own.mkdir()
        server = None
        try:
            done = served.apply(file(own, ports="[4444]"))
            assert f"programs on the control group {own.name}" in done.stdout
            with served.inside("srv"):
                server = subprocess.Popen(in_cgroup(own, echoing("0.0.0.0", 4444)))  # noqa: S104
            served.wait_bound([4444])
            assert served.answers(2, 4, 4444)
        finally:
            if server is not None:
                server.kill()
                server.wait()
            wait_for(lambda: not (own / "cgroup.procs").read_text())
            own.rmdir()
    assert "not as the file says" in served.pointsman("status").stdout


def test_apply_killed_at_any_moment_is_mended_or_taken_down(served: Uplinks, cgroup: Path) -> None:
    before = kept(served)
    other = '[[multihome]]\nname = "other"\nmode = "address"\nports = [9]\naddress = "10.255.0.9"\n'
    other += '[[multihome.uplink]]\ninterface = "up2"\n'
    for turn in range(5):
        text = file(cgroup, uplinks_of=1 + turn % 3, ports="" if turn % 2 else "[53]")
        path = served.file(text + (other if turn < 3 else ""))
        process = served.start("srv", [*POINTSMAN, "apply", str(path)], stdout=subprocess.DEVNULL)
        time.sleep(0.4 + 0.1 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
    served.apply(file(cgroup))
    assert by(served, "wild4", "wild6") == everywhere()
    served.pointsman("down")
    assert kept(served) == before
    assert pins(served) is None
