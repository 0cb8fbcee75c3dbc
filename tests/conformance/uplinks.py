"""A server machine with three uplinks, and beyond each of them a world of its own.

    srv: up0 192.0.2.2/28, 2001:db8:a::2/64  --- .1 / ::1  w0: 203.0.113.10, 2001:db8:c::10
         up1 192.0.2.18,   2001:db8:a:1::2   ---           w1: 203.0.113.11, 2001:db8:c::11
         up2 192.0.2.34,   2001:db8:a:2::2   ---           w2: 203.0.113.12, 2001:db8:c::12
    each of the worlds has 198.51.100.7 and 2001:db8:d::7 as well: clients that cannot be told by their address.

The machine's own default route is by up0. What it sends by a wrong uplink ends in a world that does not forward.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

from pointsman.kernel import bpffs, netns
from pointsman.lab.inside import inside, write_sysctl
from pointsman.reconcile.state import ROOT

POINTSMAN = [sys.executable, "-m", "pointsman.cli.main"]
UPLINKS = range(3)
TWIN = {4: "198.51.100.7", 6: "2001:db8:d::7"}
PATIENCE, QUIET = 3.0, 0.4
_numbers = count(1)


def address(uplink: int, family: int) -> str:
    return f"192.0.2.{16 * uplink + 2}" if family == 4 else str(ip_address(f"2001:db8:a:{uplink}::2"))


def router(uplink: int, family: int) -> str:
    return f"192.0.2.{16 * uplink + 1}" if family == 4 else str(ip_address(f"2001:db8:a:{uplink}::1"))


def client(uplink: int, family: int) -> str:
    return f"203.0.113.{10 + uplink}" if family == 4 else f"2001:db8:c::{10 + uplink}"


class Uplinks:
    """The namespaces ``srv``, ``w0``, ``w1`` and ``w2``, and what a test does in them."""

    def __init__(self, name: str, scratch: Path, stack: ExitStack) -> None:
        self._name, self.scratch, self._stack = name, scratch, stack

    def namespace(self, machine: str) -> str:
        return f"{self._name}-{machine}"

    def inside(self, machine: str) -> Any:
        return inside(self.namespace(machine))

    def run(
        self, machine: str, command: Sequence[str], *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        with self.inside(machine):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def start(self, machine: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process that ends with the lab."""
        with self.inside(machine):
            process = subprocess.Popen(command, **options)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def open(self, machine: str, family: int, *, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        with self.inside(machine):
            handle = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
        handle.settimeout(PATIENCE)
        self._stack.callback(handle.close)
        return handle

    def wait_bound(self, ports: Iterable[int]) -> None:
        """Until servers on the machine have all of the UDP ports, in whatever family."""
        end = time.monotonic() + 20
        missing = set(ports)
        while missing:
            assert time.monotonic() < end, f"nobody is bound to {missing}"
            lines = self.run("srv", ["ss", "-Hlun"]).stdout.splitlines()
            missing -= {int(line.split()[3].rpartition(":")[2]) for line in lines}

    def pointsman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.run("srv", [*POINTSMAN, *arguments], check=False)
        if check:
            assert done.returncode == 0, f"pointsman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def file(self, text: str) -> Path:
        path = self.scratch / "multihome.toml"
        path.write_text(text)
        return path

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        return self.pointsman("apply", str(self.file(text)))

    def asked(self, uplink: int, family: int, *, twin: bool = False, own_port: int = 0) -> socket.socket:
        """A client socket beyond the uplink, bound to its address there."""
        handle = self.open(f"w{uplink}", family)
        handle.bind((TWIN[family] if twin else client(uplink, family), own_port))
        return handle

    def answers(self, uplink: int, family: int, port: int, *, tries: int = 4) -> bool:
        """Whether a server that sends back what it gets answers from the address that it was asked at."""
        with self.asked(uplink, family) as handle:
            return answered(handle, uplink, family, port, tries=tries)


def answered(
    handle: socket.socket, uplink: int, family: int, port: int, content: bytes = b"hello", *, tries: int = 4
) -> bool:
    """Whether it comes back from the address that it was sent to; the first may wait for a neighbour."""
    handle.settimeout(QUIET)
    there = address(uplink, family)
    for _ in range(tries):
        handle.sendto(content, (there, port))
        with suppress(TimeoutError, ConnectionRefusedError):
            payload, source = handle.recvfrom(2000)
            assert payload == content
            return (str(source[0]), int(source[1])) == (there, port)
    return False


@contextmanager
def uplinks() -> Iterator[Uplinks]:
    name = f"pmu-{os.getpid()}-{next(_numbers)}"
    machines = ["srv", *(f"w{number}" for number in UPLINKS)]
    scratch = Path(tempfile.mkdtemp(prefix="pointsman-uplinks-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        lab = Uplinks(name, scratch, stack)
        outer = ExitStack()
        try:
            for machine in machines:
                outer.callback(_remove, lab.namespace(machine))
                _ip(["netns", "add", lab.namespace(machine)])
                with lab.inside(machine):
                    for which in (
                        "all",
                        "default",
                    ):  # nothing is sent before addresses are known to be unique
                        write_sysctl(f"net.ipv6.conf.{which}.accept_dad", "0")
            for line in _wiring(lab):
                _ip(line.split())
            yield lab
        finally:
            stack.close()
            with suppress(OSError):
                _forget(lab.namespace("srv"))
            outer.close()


def _wiring(lab: Uplinks) -> Iterator[str]:
    server = lab.namespace("srv")
    for number in UPLINKS:
        world = lab.namespace(f"w{number}")
        yield f"-n {server} link add up{number} type veth peer name eth0 netns {world}"
        yield f"-n {server} address add {address(number, 4)}/28 dev up{number}"
        yield f"-n {server} address add {address(number, 6)}/64 dev up{number} nodad"
        yield f"-n {world} address add {router(number, 4)}/28 dev eth0"
        yield f"-n {world} address add {router(number, 6)}/64 dev eth0 nodad"
        for device in ("lo", "eth0"):
            yield f"-n {world} link set {device} up"
        for family in (4, 6):
            length = 32 if family == 4 else 128
            for own in (client(number, family), TWIN[family]):
                yield f"-n {world} address add {own}/{length} dev lo"
        yield f"-n {server} link set up{number} up"
        for family in (4, 6):
            yield f"-n {world} route add default via {address(number, family)}"
    yield f"-n {server} link set lo up"
    for family in (4, 6):
        yield f"-n {server} route add default via {router(0, family)}"


def _ip(arguments: Sequence[str]) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def _remove(namespace: str) -> None:
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _forget(namespace: str) -> None:
    """Remove what was remembered of the namespace, also where a case failed half-way."""
    with inside(namespace):
        key = f"netns-{netns.cookie()}"
    shutil.rmtree(ROOT / key, ignore_errors=True)
    for name in (key, f"multihome-{key}"):
        if (pins := bpffs.existing(name)) is not None:
            bpffs.remove(pins)
    with suppress(OSError):
        ROOT.rmdir()
