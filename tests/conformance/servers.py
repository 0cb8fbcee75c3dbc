"""UDP servers that know nothing of uplinks, and how they are asked."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conformance.uplinks import Uplinks, address, client

PEER = Path(__file__).parents[2] / "build/peers/cidpeer"

ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
if "only6" in sys.argv:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
while True:
    payload, peer = server.recvfrom(65535)
    server.sendto(payload, peer)
"""

Starter = Callable[[Sequence[str]], object]


def in_cgroup(cgroup: Path, command: Sequence[str]) -> list[str]:
    """The command, by a shell that goes into the control group before it becomes it."""
    return ["/bin/sh", "-c", f'echo $$ > "{cgroup}/cgroup.procs"; exec "$@"', "sh", *command]


def start(lab: Uplinks, cgroup: Path | None = None) -> Starter:
    """How servers are started on the machine, in a control group if one is given."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lambda command: lab.start("srv", in_cgroup(cgroup, command) if cgroup else command, **silent)


def echoing(bind: str, port: int, *options: str) -> list[str]:
    return [sys.executable, "-c", ECHO, bind, str(port), *options]


def echo(starter: Starter, bind: str, port: int, *options: str) -> None:
    starter(echoing(bind, port, *options))


def dnsmasq(starter: Starter, port: int, *options: str) -> None:
    """A DNS server that knows one name."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("dnsmasq is not installed (Debian: dnsmasq-base)")
    command = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        f"--port={port}",
    ]
    starter([*command, "--user=root", "--address=/device.test/192.0.2.99", *options])


def resolves(lab: Uplinks, uplink: int, family: int, port: int, *, tries: int = 4) -> bool:
    """Whether the DNS server answers from where it was asked."""
    question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\6device\4test\0" + struct.pack(">HH", 1, 1)
    with lab.asked(uplink, family) as handle:
        handle.settimeout(0.5)
        for _ in range(tries):
            handle.sendto(question, (address(uplink, family), port))
            with suppress(TimeoutError, ConnectionRefusedError):
                answer, source = handle.recvfrom(2000)
                assert answer[-4:] == bytes([192, 0, 2, 99])
                return (str(source[0]), int(source[1])) == (address(uplink, family), port)
    return False


def dtls(starter: Starter, listen: str) -> None:
    """A DTLS server with connection IDs."""
    if not PEER.exists():
        pytest.skip("`make peers` has not been run")
    starter([str(PEER), "server", "--listen", listen])


def handshakes(lab: Uplinks, uplink: int, family: int, port: int) -> bool:
    """Whether a DTLS session is made with the server, and its messages are answered."""
    host = address(uplink, family)
    at = f"[{host}]:{port}" if family == 6 else f"{host}:{port}"
    command = [str(PEER), "client", "--connect", at, "--source", client(uplink, family), "--requests", "2"]
    command += [
        "--duration",
        "10",
        "--handshake-timeout-ms",
        "300:900",
        "--timeout-ms",
        "700",
        "--retries",
        "5",
    ]
    with lab.inside(f"w{uplink}"):
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


CONNECTING = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET

def bound():
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((sys.argv[1], int(sys.argv[2])))
    return made

kept = []
while True:
    server = bound()  # which hears all; the one before is its peer's alone
    kept.append(server)
    payload, peer = server.recvfrom(65535)
    server.connect(peer)
    server.send(payload)
"""
"""A server that has a connected socket for each peer, as those have that were made for DTLS libraries."""

CHOOSING = """
import ipaddress, socket, struct, sys
chosen = ipaddress.ip_address(sys.argv[1])
server = socket.socket(socket.AF_INET if chosen.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("0.0.0.0" if chosen.version == 4 else "::", int(sys.argv[2])))
if chosen.version == 4:
    source = (socket.IPPROTO_IP, 8, struct.pack("I4s4s", 0, chosen.packed, bytes(4)))  # IP_PKTINFO
else:
    source = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("16sI", chosen.packed, 0))
while True:
    payload, peer = server.recvfrom(65535)
    server.sendmsg([payload], [source], 0, peer)
"""
"""A server that names the source of what it sends itself."""


def connecting(starter: Starter, bind: str, port: int) -> None:
    starter([sys.executable, "-c", CONNECTING, bind, str(port)])


def choosing(starter: Starter, source: str, port: int) -> None:
    starter([sys.executable, "-c", CHOOSING, source, str(port)])
