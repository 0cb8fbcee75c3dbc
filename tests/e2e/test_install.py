"""Install, upgrade under traffic, go back and remove: the steps of docs/howto/operations.md, but for systemd's."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.load import Load
from tests.e2e.installed import install, wheel

from pointsman.lab.build import Lab
from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP

pytestmark = pytest.mark.netns
NODES = ("n1", "n2", "n3")
FLOWS = 5683


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The version that is there, the next one, and one that makes other tables of the same file."""
    place = tmp_path_factory.mktemp("install")
    found = {
        version: install(wheel(place, version), place / f"pointsman-{version}")
        for version in ("0.1.1", "0.1.2")
    }
    found["0.2.0"] = install(place / "pointsman-0.1.2-py3-none-any.whl", place / "pointsman-0.2.0")
    package = next(found["0.2.0"].glob("lib/python*/site-packages/pointsman"))
    compilers = package / "plan/__init__.py"
    compilers.write_text(f"{compilers.read_text()}\n# another make\n")
    (package / "__init__.py").write_text('__version__ = "0.2.0"\n')
    return found


def configuration(lab: Lab, plane: str) -> str:
    lines = [f'[gateway]\nname = "edge"\nhash_seed = 1\ndataplane = "{plane}"']
    for name, port, more in (
        ("s", 5684, 'protocol = "dtls"\nconnection_id = "californium"'),
        ("flows", FLOWS, 'protocol = "udp"\nscheduler = "random"'),
    ):
        listen = f'listen = ["{VIP[4]}:{port}", "[{VIP[6]}]:{port}"]'
        lines.append(f'[[service]]\nname = "{name}"\n{listen}\n{more}')
        for node in NODES:
            addresses = ", ".join(f'"{lab.address(node, family)}"' for family in (4, 6))
            number = f"\nid = {node[1:]}" if name == "s" else ""
            lines.append(f'[[service.node]]\nname = "{node}"\naddress = [{addresses}]{number}')
    return "\n".join([*lines, ""])


class Machine:
    """A gateway on which versions are installed; a link says which is in use."""

    def __init__(self, lab: Lab, place: Path, text: str) -> None:
        self.lab = lab
        self.link = place / "pointsman"
        self.file = place / "gateway.toml"
        self.file.write_text(text)
        self.log = place / "log"
        self.process: subprocess.Popen[str] | None = None

    def use(self, folder: Path) -> None:
        new = self.link.with_suffix(".new")
        new.symlink_to(folder)
        new.replace(self.link)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab.run("gw", [str(self.link / "bin/pointsman"), *arguments], check=check)

    def start(self) -> None:
        with self.log.open("a") as log:
            argv = [str(self.link / "bin/pointsman"), "serve", str(self.file)]
            self.process = self.lab.popen("gw", argv, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self.run("events", check=False).stdout.strip():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(60) == 0, self.log.read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def started(self) -> dict[str, Any]:
        lines = self.run("events", "--json").stdout.splitlines()
        return next(event for line in lines if (event := json.loads(line))["kind"] == "started")


@pytest.fixture
def machine(lab: Lab, site: Site, plane: str, tmp_path: Path) -> Iterator[Machine]:
    found = Machine(lab, tmp_path, configuration(lab, plane))
    del site  # it takes down what is left
    try:
        yield found
    finally:
        found.stop()
    assert "Traceback" not in found.log.read_text()


class Flows:
    """Clients of a service that chooses at random: only what is remembered brings one to its node again."""

    def __init__(self, lab: Lab) -> None:
        self._nodes = {}
        for family, inet in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            for node in NODES:
                handle = lab.socket(node, inet, socket.SOCK_DGRAM)
                handle.bind((lab.address(node, family), FLOWS))
                handle.settimeout(0)
                self._nodes[node, family] = handle
        self._clients = [
            (family, lab.socket("client", inet, socket.SOCK_DGRAM))
            for family, inet in ((4, socket.AF_INET), (6, socket.AF_INET6))
            for _ in range(8)
        ]

    def nodes(self) -> list[str]:
        """Where a datagram of each client arrives."""
        return [self._node_of(family, client) for family, client in self._clients]

    def _node_of(self, family: int, client: socket.socket) -> str:
        client.sendto(b"x", (VIP[family], FLOWS))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for node in NODES:
                try:
                    self._nodes[node, family].recv(10)
                except BlockingIOError:
                    continue
                return node
            time.sleep(0.001)
        raise AssertionError(f"nothing arrived over IPv{family}")


def test_versions_change_under_traffic_and_nothing_is_lost(
    lab: Lab, machine: Machine, folders: dict[str, Path]
) -> None:
    untouched = standing_on(lab)
    machine.use(folders["0.1.1"])
    assert "0.1.1" in machine.run("--version").stdout
    machine.run("check", str(machine.file))
    machine.start()
    machine.run("node", "drain", "s/n2")
    machine.run("node", "disable", "flows/n3", "--reason", "a new disk")
    flows = Flows(lab)
    chosen = flows.nodes()
    assert set(chosen) == {"n1", "n2"}
    load = Load(lab, 2_000)
    for version, keeps in (("0.1.2", True), ("0.1.1", True), ("0.2.0", False)):
        counted = machine.status()["services"][0]["nodes"][0]["counters"]["cid"]["packets"]
        assert counted > 0
        machine.run("check", str(machine.file))
        machine.use(folders[version])
        machine.stop()
        machine.start()
        status = machine.status()
        assert status["version"] == version
        states = {
            (one["name"], node["name"]): node["state"] for one in status["services"] for node in one["nodes"]
        }
        orders = {key: state for key, state in states.items() if state != "up"}
        assert orders == {("s", "n2"): "draining", ("flows", "n3"): "disabled"}
        if keeps:
            assert machine.started()["more"]["changes"] == []
            assert status["services"][0]["nodes"][0]["counters"]["cid"]["packets"] >= counted
            assert flows.nodes() == chosen, "flows are remembered"
        else:
            assert machine.started()["more"]["changes"] != [], (
                "the control: tables of another make are made anew"
            )
    machine.stop()  # forwarding goes on
    time.sleep(0.3)
    sent, arrived = load.stop()
    assert sent > 1_000
    assert arrived == sent
    machine.run("down")
    assert standing_on(lab) == untouched


def standing_on(lab: Lab) -> list[str]:
    """What a gateway's kernel has of rules, addresses, programs and settings."""
    shown = [
        lab.run("gw", command).stdout
        for command in (
            ["nft", "list", "ruleset"],
            ["ip", "-brief", "address"],
            ["ip", "rule"],
            ["ip", "-6", "rule"],
            ["sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.wan0.rp_filter"],
        )
    ]
    links = json.loads(lab.run("gw", ["ip", "-json", "link"]).stdout)
    return [*shown, *(f"{link['ifname']} {'xdp' in link}" for link in links)]
