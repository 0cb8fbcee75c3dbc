"""What cases about the gateway's surroundings look at, and labs of their own to change at will."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.site import COAPS, Site

from pointsman.lab.build import Lab
from pointsman.lab.capture import Frame
from pointsman.lab.errors import LabError
from pointsman.lab.topology import ONLINK_VIP, Topology
from pointsman.reconcile.state import ROOT

_numbers = count(1)


@contextmanager
def own_lab(*, nodes: int = 3, nats: int = 0) -> Iterator[Lab]:
    """A lab for one case, which may do to it what it likes."""
    with Lab.up(Topology(f"e{os.getpid()}-{next(_numbers)}", nodes=nodes, nats=nats)) as lab:
        for machine in lab.topology.machines:  # errors are what cases wait for
            lab.sysctl(machine.name, "net.ipv4.icmp_ratelimit", "0")
            lab.sysctl(machine.name, "net.ipv6.icmp.ratelimit", "0")
        yield lab
        assert lab.checksum_errors() == {}


@contextmanager
def own_site(plane: str, family: int, *, nodes: int = 3, nats: int = 0) -> Iterator[Site]:
    with own_lab(nodes=nodes, nats=nats) as lab:
        site = Site(lab, plane, family)
        yield site
        site.close()


def carried(
    lab: Lab,
    plane: str = "nftables",
    *,
    families: Sequence[int] = (4, 6),
    interface: str | None = "wan0",
    vip: Mapping[int, str] = ONLINK_VIP,
    nodes: Sequence[str] = ("n1", "n2"),
) -> str:
    """A file with one DTLS service ``s`` whose listeners name ``interface``."""
    listening = []
    for family in families:
        endpoint = f"[{vip[family]}]:{COAPS}" if family == 6 else f"{vip[family]}:{COAPS}"
        where = f', interface = "{interface}"' if interface else ""
        listening.append(f'{{ address = "{endpoint}"{where} }}')
    lines = [
        "[gateway]",
        'name = "edge"',
        f'dataplane = "{plane}"',
        "hash_seed = 0x5eed1234",
        "[[service]]",
        'name = "s"',
        'protocol = "dtls"',
        f"listen = [{', '.join(listening)}]",
        "connection_id = { offset = 0, bits = 8, length = 6 }",
    ]
    for name in nodes:
        addresses = ", ".join(f'"{lab.address(name, family)}"' for family in families)
        lines += ["[[service.node]]", f'name = "{name}"', f"address = [{addresses}]", f"id = {name[1:]}"]
    return "\n".join([*lines, ""])


# what the kernel says


def settings(lab: Lab, machine: str = "gw") -> dict[str, str]:
    """Every setting of every interface, of both IP versions, and the switch of all."""
    root, found = Path("/proc/sys/net"), {}
    with lab.inside(machine):
        paths = [root / "ipv4/ip_forward", *root.glob("ipv[46]/conf/*/*")]
        for path in paths:
            with suppress(OSError):  # stable_secret cannot be read before it is set
                found[str(path.relative_to(root))] = path.read_text().strip()
    return found


def ip(lab: Lab, machine: str, *arguments: str) -> Any:
    text = lab.run(machine, ["ip", "-json", *arguments]).stdout
    return json.loads(text) if text.strip() else []


def addresses(lab: Lab, machine: str = "gw") -> list[tuple[str, str, int]]:
    """Interface, address and prefix length of each address but the links' own, which come when they like."""
    return sorted(
        (row["ifname"], entry["local"], entry["prefixlen"])
        for row in ip(lab, machine, "address", "show")
        for entry in row["addr_info"]
        if entry["scope"] != "link"
    )


def ruleset(lab: Lab, machine: str = "gw") -> str:
    return lab.run(machine, ["nft", "list", "ruleset"]).stdout


def files(lab: Lab, machine: str = "gw") -> list[Path]:
    """What is kept under /run for the machine."""
    said = lab.run(
        machine, ["python3", "-c", "import socket as s; print(s.socket().getsockopt(1, 71, 8).hex())"]
    ).stdout
    cookie = int.from_bytes(bytes.fromhex(said.strip()), "little")
    folder = ROOT / f"netns-{cookie}"
    return [folder, *folder.iterdir()] if folder.exists() else []


def machine_state(lab: Lab) -> tuple[str, dict[str, str], list[tuple[str, str, int]]]:
    """All of the gateway that `down` has to put back."""
    return ruleset(lab), settings(lab), addresses(lab)


def neighbour(lab: Lab, address: str, machine: str = "client", interface: str = "eth0") -> str | None:
    rows = ip(lab, machine, "neighbour", "show", "to", address, "dev", interface)
    return rows[0].get("lladdr") if rows else None


def mac(lab: Lab, machine: str, interface: str) -> str:
    return lab.topology.machine(machine).interface(interface).mac


def wait_for(what: Callable[[], object], timeout: float = 5.0) -> None:
    """Poll until it is true; fail the case where it stays false."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, f"not within {timeout} s"
        time.sleep(0.02)


# what the wire says


def showing_a_node(lab: Lab, frames: Iterable[Frame]) -> list[Frame]:
    """The frames that hold any address of any node, anywhere."""
    secret = [
        ip_address(lab.address(machine.name, family)).packed
        for machine in lab.topology.machines
        if re.fullmatch(r"n\d+", machine.name)
        for family in (4, 6)
    ]
    return [frame for frame in frames if any(address in frame.data for address in secret)]


def is_icmp(frame: Frame, *types: int) -> bool:
    """Whether it is an ICMP or ICMPv6 message of one of the types (headers without options)."""
    packet = frame.packet
    if frame.ethertype == 0x0800:
        return packet[9] == 1 and packet[4 * (packet[0] & 15)] in types
    return frame.ethertype == 0x86DD and packet[6] == 58 and packet[40] in types


REDIRECT = (5, 137)
NEIGHBOUR_DISCOVERY = (133, 134, 135, 136)


# what pointsman says


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [
        line.removeprefix("warning: ") for line in done.stderr.splitlines() if line.startswith("warning: ")
    ]


def dropping(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The warnings about other people's chains."""
    return [line for line in warnings(done) if "would drop" in line]


def lines_to_add(found: Iterable[str]) -> list[list[str]]:
    """The commands that the warnings offer, word by word as a shell would read them."""
    return [shlex.split(line.partition("; add: ")[2]) for line in found]


def refused(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line that a command ended with."""
    assert done.returncode == status, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done
    assert "Traceback" not in done.stderr
    return lines[0]


def needs_device(lab: Lab, kind: str, *options: str, base: str | None = None) -> None:
    """Skip where the kernel has no such device."""
    on = ["link", base] if base else []
    try:
        lab.run("sw", ["ip", "link", "add", *on, "name", "pmprobe", "type", kind, *options])
    except LabError as refusal:
        pytest.skip(f"this kernel makes no device of type {kind}: {refusal}")
    lab.run("sw", ["ip", "link", "delete", "pmprobe"])
