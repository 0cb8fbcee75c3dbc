"""The lab itself, with real namespaces. Roles of the addresses: pointsman/lab/topology.py."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pointsman.cli.lab import lab as command
from pointsman.lab import ONLINK_VIP, VIP, Lab, LabError, Topology, inside, processes, state, take_down
from pointsman.lab.build import existing
from pointsman.lab.example import example
from pointsman.lab.offload import Offload
from pointsman.reconcile.state import state_directory

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root"),
]

SOURCES = Path(__file__).parents[2] / "src"
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - inside a namespace
PORT = 5000
both_families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"t{os.getpid()}"
    yield chosen
    take_down(chosen)


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """A lab whose gateway forwards."""
    with Lab.up(Topology(f"t{os.getpid()}s", nodes=2, nats=2, devices_per_nat=2, offload=False)) as lab:
        forward(lab)
        yield lab


def forward(lab: Lab) -> None:
    lab.sysctl("gw", "net.ipv4.ip_forward", "1")
    lab.sysctl("gw", "net.ipv6.conf.all.forwarding", "1")


def udp(lab: Lab, machine: str, family: int, port: int = 0, address: str = "") -> socket.socket:
    handle = lab.socket(machine, AF[family], socket.SOCK_DGRAM)
    handle.settimeout(2)
    handle.bind((address or ANY[family], port))
    return handle


def nothing_left(name: str) -> bool:
    files = list(state.DIRECTORY.glob(f"{name}.*"))
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return not existing(name) and not files and f"pm-{name}-" not in listed


def gone(pid: int) -> bool:
    """Ended; a zombie whose parent was killed may wait for init a moment."""
    known = Path(f"/proc/{pid}/stat")
    return not known.exists() or ") Z " in known.read_text()


@both_families
def test_client_reaches_a_node_only_once_the_gateway_forwards(name: str, family: int) -> None:
    with Lab.up(Topology(name, nodes=3, nats=2)) as lab:
        ping = ["ping", "-c1", "-W1", lab.address("n3", family)]
        assert lab.run("client", ping, check=False).returncode != 0
        forward(lab)
        lab.run("client", ping)
        lab.run("dev2", ping)


def test_the_gateway_starts_as_a_plain_machine(name: str) -> None:
    with Lab.up(Topology(name)) as lab:
        assert lab.sysctl("gw", "net.ipv4.ip_forward") == "0"
        assert lab.sysctl("gw", "net.ipv6.conf.all.forwarding") == "0"
        assert lab.sysctl("gw", "net.ipv4.conf.wan0.rp_filter") == "0"
        assert lab.run("gw", ["nft", "list", "ruleset"]).stdout == ""


@both_families
def test_the_first_packet_to_every_node_arrives(name: str, family: int) -> None:
    with Lab.up(Topology(name, nodes=8, nats=1)) as lab:
        forward(lab)
        receivers = [udp(lab, f"n{i}", family, PORT) for i in range(1, 9)]
        device = udp(lab, "dev1", family)
        for i, receiver in enumerate(receivers, 1):
            device.sendto(b"at once", (lab.address(f"n{i}", family), PORT))
            assert receiver.recv(99) == b"at once"


@both_families
def test_remap_moves_an_unchanged_socket_to_a_new_address_and_port(site: Lab, family: int) -> None:
    node, device = udp(site, "n1", family, PORT), udp(site, "dev1", family, 6000)
    nat = site.nat(1)
    outside = nat.external(family)
    for address, ports in (
        (outside[1], (40000, 40000)),
        (outside[0], (41000, 41009)),
        (outside[3], (40000, 40000)),
    ):
        nat.remap(address, ports)
        device.sendto(b"ping", (site.address("n1", family), PORT))
        data, source = node.recvfrom(99)
        assert (data, source[0]) == (b"ping", address)
        assert ports[0] <= source[1] <= ports[1]
        node.sendto(b"pong", source)
        assert device.recv(99) == b"pong"


@both_families
def test_two_devices_have_one_address_and_port_in_turn(site: Lab, family: int) -> None:
    node = udp(site, "n1", family, PORT + 1)
    nat, to = site.nat(2), (site.address("n1", family), PORT + 1)
    address = nat.external(family)[0]
    sources: list[tuple[str, int]] = []
    for machine in ("dev3", "dev4", "dev3"):
        nat.remap(address, 40000)
        if sources:
            node.sendto(b"late", sources[-1])  # must not reach a device, nor take the port
        device = udp(site, machine, family)
        device.sendto(machine.encode(), to)
        data, source = node.recvfrom(99)
        assert data == machine.encode()
        node.sendto(b"answer", source)
        assert device.recv(99) == b"answer"
        sources.append(source)
    assert {source[:2] for source in sources} == {(address, 40000)}


def test_remap_of_one_family_leaves_the_other_alone(site: Lab) -> None:
    nat = site.nat(1)
    nat.remap(nat.external(6)[2], 45000)
    nat.remap(nat.external(4)[2], 46000)
    node, device = udp(site, "n2", 6, PORT), udp(site, "dev2", 6)
    device.sendto(b"x", (site.address("n2", 6), PORT))
    assert node.recvfrom(9)[1][:2] == (nat.external(6)[2], 45000)


def test_a_nat_refuses_addresses_and_ports_it_cannot_have(site: Lab) -> None:
    with pytest.raises(LabError, match=r"nat1 has no address 192\.0\.2\.1; it has 198"):
        site.nat(1).remap("192.0.2.1")
    with pytest.raises(LabError, match="no range within"):
        site.nat(1).remap(site.nat(1).external(4)[0], (2, 1))
    with pytest.raises(LabError, match="has no nat3"):
        site.nat(3)


@both_families
@pytest.mark.parametrize("sender", ["client", "dev1"])
def test_both_kinds_of_vip_lead_to_the_gateway(site: Lab, sender: str, family: int) -> None:
    prefix = 32 if family == 4 else 128
    carried = f"{ONLINK_VIP[family]}/{prefix}"
    site.run("gw", ["ip", "address", "add", carried, "dev", "wan0", *(["nodad"] if family == 6 else [])])
    try:
        with site.capture("gw", "wan0", outgoing=False) as frames:
            for vip in (VIP[family], ONLINK_VIP[family]):
                udp(site, sender, family).sendto(vip.encode(), (vip, PORT))
                frames.wait(want=lambda frame, vip=vip: frame.data.endswith(vip.encode()))  # type: ignore[misc]
    finally:
        site.run("gw", ["ip", "address", "del", carried, "dev", "wan0"])


@pytest.mark.parametrize(("family", "address"), [(4, "198.19.254.7"), (6, "2001:db8:19::abcd:7")])
def test_the_client_sends_from_any_address_of_its_pool(site: Lab, family: int, address: str) -> None:
    node, client = udp(site, "n1", family, PORT), udp(site, "client", family, 7000, address)
    client.sendto(b"x", (site.address("n1", family), PORT))
    source = node.recvfrom(9)[1]
    assert source[:2] == (address, 7000)
    node.sendto(b"y", source)
    assert client.recv(9) == b"y"


@both_families
def test_a_capture_has_the_bytes_on_both_sides_of_the_gateway(site: Lab, family: int) -> None:
    node, client = udp(site, "n1", family, PORT), udp(site, "client", family, 7001)
    with site.capture("client", "eth0") as before, site.capture("n1", "eth0", outgoing=False) as after:
        began = time.time()
        client.sendto(b"mark 1234", (site.address("n1", family), PORT))
        node.recv(99)
        sent = before.wait(want=lambda frame: frame.outgoing and frame.data.endswith(b"mark 1234"))[0]
        got = after.wait(want=lambda frame: frame.data.endswith(b"mark 1234"))[0]
    assert sent.checksum_ready
    assert got.checksum_ready
    hop_limit = 8 if family == 4 else 7
    assert (sent.packet[hop_limit], got.packet[hop_limit]) == (64, 63)
    changed = {hop_limit, 10, 11} if family == 4 else {hop_limit}  # IPv4 has a header checksum
    differing = {i for i, (a, b) in enumerate(zip(sent.packet, got.packet, strict=True)) if a != b}
    assert differing <= changed
    assert began - 1 < sent.time <= got.time < began + 3
    assert before.lost == after.lost == 0


def test_a_capture_says_when_a_checksum_is_still_to_be_made(site: Lab) -> None:
    client = udp(site, "client", 4)
    site.offload("client", "eth0", Offload.TX_CHECKSUM, on=True)
    try:
        with site.capture("gw", "wan0") as frames, site.capture("n2", "eth0") as behind:
            client.sendto(b"half done", (site.address("n2", 4), PORT))
            frame = frames.wait(want=lambda frame: frame.data.endswith(b"half done"))[0]
            finished = behind.wait(want=lambda frame: frame.data.endswith(b"half done"))[0]
    finally:
        site.offload("client", "eth0", Offload.TX_CHECKSUM, on=False)
    assert not frame.checksum_ready
    assert finished.checksum_ready  # made by the gateway, whose own offload is off
    assert frame.packet[26:28] != finished.packet[26:28]


@both_families
def test_wrong_udp_checksums_are_counted_at_the_machine_that_got_them(site: Lab, family: int) -> None:
    raw = site.socket("client", AF[family], socket.SOCK_RAW, socket.IPPROTO_UDP)
    start = site.checksum_errors().get("n2", 0)
    datagram = struct.pack(">HHHH4s", 7002, 9, 12, 0xBAD, b"oops")
    raw.sendto(datagram, (site.address("n2", family), 0))
    deadline = time.monotonic() + 2
    while site.checksum_errors() != {"n2": start + 1}:
        assert time.monotonic() < deadline, site.checksum_errors()
        time.sleep(0.01)


def test_a_socket_stays_in_its_namespace_and_the_thread_comes_back(site: Lab) -> None:
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    with site.inside("n1"):
        assert Path("/proc/thread-self/ns/net").stat().st_ino != here
        with pytest.raises(ZeroDivisionError), site.inside("n2"):
            _ = 1 / 0
    assert Path("/proc/thread-self/ns/net").stat().st_ino == here
    with pytest.raises(LabError, match="no network namespace pm-nobody"), inside("pm-nobody"):
        pass


def test_run_reports_what_a_command_said(site: Lab) -> None:
    assert site.run("n1", ["cat"], text="hello").stdout == "hello"
    with pytest.raises(LabError, match="n1: sh -c echo no >&2; exit 3: exit status 3: no"):
        site.run("n1", ["sh", "-c", "echo no >&2; exit 3"])


def test_down_leaves_no_namespace_process_or_file(name: str) -> None:
    lab = Lab.up(Topology(name))
    (lab.scratch / "log").write_text("x")
    held = udp(lab, "n1", 4, PORT)
    plain = lab.popen("n1", ["sleep", "60"])
    stubborn = lab.popen("n2", ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    grandchild = int(stubborn.stdout.readline())
    lab.down()
    assert nothing_left(name)
    assert (plain.returncode, stubborn.returncode) == (-15, -9)
    assert gone(grandchild)
    assert held.fileno() == -1
    lab.down()
    assert not take_down(name)


def test_down_after_the_builder_was_killed(name: str) -> None:
    builder = textwrap.dedent(
        f"""
        import time
        from pointsman.lab import Lab, Topology
        lab = Lab.up(Topology({name!r}))
        print(lab.popen("n1", ["sleep", "60"]).pid, flush=True)
        time.sleep(60)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    argv = [sys.executable, "-c", builder]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        orphan = int(child.stdout.readline())
        child.kill()
    recorded = state.load(name)
    assert recorded is not None
    assert [process.pid for process in recorded.processes] == [orphan]
    assert take_down(name)
    assert nothing_left(name)
    assert gone(orphan)


def test_down_without_the_file_goes_by_the_names(name: str) -> None:
    lab = Lab.up(Topology(name, nodes=1))
    child = lab.popen("gw", ["sleep", "60"])
    state.state_file(name).unlink()
    assert take_down(name)
    assert nothing_left(name)
    assert child.wait(1) == -15


def test_down_of_a_half_built_lab(name: str) -> None:
    state.claim(state.State(Topology(name)))
    subprocess.run(["ip", "netns", "add", f"pm-{name}-gw"], check=True)
    with pytest.raises(LabError, match=f"lab {name} is up already"):
        Lab.up(Topology(name))
    assert take_down(name)
    assert nothing_left(name)


def test_what_fails_while_building_is_taken_down(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.lab.commands.nat_table", lambda *_: "table ip t { nonsense }\n")
    with pytest.raises(LabError, match=r"nft: .*syntax error.*\(at: table ip t"):
        Lab.up(Topology(name))
    assert nothing_left(name)


def test_down_forgets_what_was_applied_in_the_lab(name: str) -> None:
    with Lab.up(Topology(name, nodes=1)) as lab:
        file = lab.scratch / "gateway.toml"
        file.write_text(example(lab.topology))
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        script = "from pointsman.cli.main import main; main()"
        lab.run("gw", [sys.executable, "-c", script, "apply", str(file)], env=environment)
        with lab.inside("gw"):
            remembered = state_directory()
        assert remembered.exists()
        assert lab.sysctl("gw", "net.ipv4.ip_forward") == "1"
    assert not remembered.exists()


def test_two_labs_at_once_do_not_see_each_other(name: str) -> None:
    with Lab.up(Topology(name, nodes=1)) as one:
        with Lab.up(Topology(f"{name}-n1", nodes=1)) as other:
            forward(one)
            forward(other)
            receivers = [udp(each, "n1", 4, PORT) for each in (one, other)]
            udp(other, "dev1", 4).sendto(b"x", (other.address("n1", 4), PORT))
            assert receivers[1].recv(9) == b"x"
            receivers[0].settimeout(0.1)
            with pytest.raises(TimeoutError):
                receivers[0].recv(9)
            with pytest.raises(LabError, match="is up already"):
                Lab.up(Topology(name))
            running = one.popen("n1", ["sleep", "60"])
        assert nothing_left(f"{name}-n1")
        assert running.poll() is None
        one.run("dev1", ["ping", "-c1", "-W1", one.address("n1", 6)])
    assert nothing_left(name)


def test_another_process_attaches(name: str) -> None:
    with pytest.raises(LabError, match=f"there is no lab {name}"):
        Lab.attach(name)
    with Lab.up(Topology(name, nodes=1, nats=0)) as lab:
        child = Lab.attach(name).popen("n1", ["sleep", "60"])
        assert processes.identify(child.pid) in processes.within([lab.namespace("n1")])
    assert child.wait(1) == -15


def test_the_commands_build_use_show_and_end_a_lab(name: str) -> None:
    runner = CliRunner()
    built = runner.invoke(command, ["up", "--name", name, "--nodes", "2", "--nats", "1", "--devices", "2"])
    assert built.exit_code == 0, built.output
    file = state.example_file(name)
    assert f"pointsman lab exec --name {name} gw -- pointsman apply {file}" in built.output
    assert len(tomllib.loads(file.read_text())["service"]) == 2
    again = runner.invoke(command, ["up", "--name", name])
    assert isinstance(again.exception, LabError)
    assert f"pointsman lab down {name}" in str(again.exception)

    def execute(*words: str) -> subprocess.CompletedProcess[str]:
        script = "from pointsman.cli.main import main; main()"
        argv = [sys.executable, "-c", script, "lab", "exec", "--name", name, *words]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)

    ended = execute("n2", "--", "sh", "-c", "ip -br address show eth0; exit 7")
    assert ended.returncode == 7
    assert "10.0.0.12/24" in ended.stdout
    assert execute("n2", "no-such-command").returncode == 127
    assert f"lab {name} has no n3" in execute("n3", "true").stderr

    shown = json.loads(runner.invoke(command, ["status", name, "--json"]).output)["labs"]
    assert [each["name"] for each in shown] == [name]
    machines = {machine["name"]: machine for machine in shown[0]["machines"]}
    assert set(machines) == {"sw", "gw", "client", "n1", "n2", "nat1", "dev1", "dev2"}
    assert "fd00::12/64" in machines["n2"]["addresses"]
    assert f"pm-{name}-n2" in runner.invoke(command, ["status", name]).output

    assert runner.invoke(command, ["down", name]).output == f"Lab {name} is down.\n"
    assert nothing_left(name)
    assert runner.invoke(command, ["down", name]).output == f"Nothing to do: there is no lab {name}.\n"
