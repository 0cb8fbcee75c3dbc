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
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.site import COAPS, Site

from pointsman.kernel import bpffs, netns
from pointsman.lab.build import Lab
from pointsman.lab.capture import Frame
from pointsman.lab.errors import LabError
from pointsman.lab.topology import ONLINK_VIP, Topology
from pointsman.reconcile.state import ROOT

_numbers = count(1)


@contextmanager
def own_lab(plane: str, *, nodes: int = 3, nats: int = 0, direct: bool = False) -> Iterator[Lab]:
    """A lab for one case, which may do to it what it likes."""
    # XDP cannot finish the checksums that senders leave to their device.
    name = f"e{os.getpid()}-{next(_numbers)}"
    topology = Topology(name, nodes=nodes, nats=nats, offload=plane != "xdp", direct=direct)
    with Lab.up(topology) as lab:
        for machine in lab.topology.machines:  # errors are what cases wait for
            lab.sysctl(machine.name, "net.ipv4.icmp_ratelimit", "0")
            lab.sysctl(machine.name, "net.ipv6.icmp.ratelimit", "0")
        yield lab
        assert lab.checksum_errors() == {}


@contextmanager
def own_site(
    plane: str, family: int, *, nodes: int = 3, nats: int = 0, direct: bool = False
) -> Iterator[Site]:
    with own_lab(plane, nodes=nodes, nats=nats, direct=direct) as lab:
        site = Site(lab, plane, family)
        yield site
        site.close()


def only_on(plane: str, *, because: str) -> pytest.MarkDecorator:
    """Mark cases about what one data plane alone does; on the other they are skipped, and it says why."""
    return pytest.mark.only_on(plane, because=because)


def carried(
    site: Site,
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
        f'dataplane = "{site.plane}"',
        "hash_seed = 0x5eed1234",
        "[[service]]",
        'name = "s"',
        'protocol = "dtls"',
        f"listen = [{', '.join(listening)}]",
        "connection_id = { offset = 0, bits = 8, length = 6 }",
    ]
    for name in nodes:
        addresses = ", ".join(f'"{site.lab.address(name, family)}"' for family in families)
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
    with lab.inside(machine):
        folder = ROOT / f"netns-{netns.cookie()}"
    return [folder, *folder.iterdir()] if folder.exists() else []


def pins(lab: Lab, machine: str = "gw") -> list[Path]:
    """What the XDP plane has pinned for the machine."""
    with lab.inside(machine):
        folder = bpffs.existing(f"netns-{netns.cookie()}")
    return sorted([folder, *folder.iterdir()]) if folder is not None else []


def programs(lab: Lab, machine: str = "gw") -> dict[str, str]:
    """How XDP programs are attached, by interface."""
    modes = {1: "native", 2: "generic"}
    rows = ip(lab, machine, "link", "show")
    return {row["ifname"]: modes[row["xdp"]["mode"]] for row in rows if "xdp" in row}


def clsact(lab: Lab, machine: str = "gw") -> list[str]:
    """The interfaces that have a qdisc for programs at tc."""
    rows = json.loads(lab.run(machine, ["tc", "-json", "qdisc", "show"]).stdout)
    return [row["dev"] for row in rows if row["kind"] == "clsact"]


def standing(site: Site) -> object:
    """What packets meet on the gateway, whatever the plane: it is equal only where nothing has changed."""
    if site.plane == "nftables":
        return ruleset(site.lab)
    with site.maps() as maps:
        there = {name: sorted(maps.maps[name].items_batch()) for name in ("listeners", "replies")}
        content = [bytes(maps.views[name]) for name in ("settings", "nodes", "words", "ports")]
    return pins(site.lab), programs(site.lab), there, content


@dataclass(frozen=True)
class MachineState:
    """All of the gateway that `down` has to put back."""

    rules: str
    settings: dict[str, str]
    addresses: list[tuple[str, str, int]]
    programs: dict[str, str]
    clsact: list[str]


def machine_state(lab: Lab) -> MachineState:
    return MachineState(ruleset(lab), settings(lab), addresses(lab), programs(lab), clsact(lab))


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
