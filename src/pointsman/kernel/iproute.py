"""Addresses, links and routes, by iproute2's JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pointsman.kernel.errors import KernelError
from pointsman.model import Address, Family


@dataclass(frozen=True, slots=True)
class Link:
    """``kind`` and ``master_kind`` are iproute2's words (bridge, bond, vrf); ``master`` is what it is enslaved to."""

    name: str
    mtu: int
    mac: bytes
    up: bool
    kind: str = ""
    master: str = ""
    master_kind: str = ""


def _run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ip", "-json", *arguments], input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise KernelError("the command ip is missing; install the package iproute2") from None


def _ip(*arguments: str) -> Any:
    done = _run(*arguments)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise KernelError(f"ip {' '.join(arguments)}: {lines[0]}")
    return _rows(done.stdout)


def _rows(text: str) -> Any:
    return json.loads(text) if text.strip() else []


def links() -> dict[str, Link]:
    found = {}
    for row in _ip("-details", "link", "show"):
        if not row.get("ifname"):
            continue
        hardware = row.get("address", "") if row.get("link_type") == "ether" else ""
        found[row["ifname"]] = Link(
            row["ifname"],
            int(row.get("mtu", 0)),
            bytes.fromhex(hardware.replace(":", "")),
            "UP" in row.get("flags", []),
            row.get("linkinfo", {}).get("info_kind", ""),
            row.get("master", ""),
            row.get("linkinfo", {}).get("info_slave_kind", ""),
        )
    return found


def addresses() -> dict[Address, str]:
    """Every address of this machine and the interface that carries it."""
    return {
        ip_address(entry["local"]): row["ifname"]
        for row in _ip("address", "show")
        for entry in row.get("addr_info", [])
        if "local" in entry
    }


def add_address(address: Address, interface: str) -> None:
    """Carry the address alone (/32, /128), at once: no duplicate-address wait."""
    options = ["nodad"] if address.version == 6 else []
    _ip("address", "add", f"{address}/{address.max_prefixlen}", "dev", interface, *options)


def remove_address(address: Address, interface: str) -> None:
    _ip("address", "del", f"{address}/{address.max_prefixlen}", "dev", interface)


def carries(address: Address, interface: str) -> bool:
    """Whether the interface has the address just as ``add_address`` puts it there."""
    return any(
        ip_address(entry["local"]) == address and entry["prefixlen"] == address.max_prefixlen
        for row in _ip("address", "show", "dev", interface)
        for entry in row.get("addr_info", [])
        if "local" in entry
    )


def devices_to(addresses: Sequence[Address], vrf: str | None = None) -> dict[Address, str | None]:
    """The interface that packets to each address leave by, None where no route leads there; all in one go."""
    if not addresses:
        return {}
    within = f" vrf {vrf}" if vrf else ""
    batch = "".join(f"route get {address}{within}\n" for address in addresses)
    done = _run("-force", "-batch", "-", text=batch)  # it fails where one of the look-ups does
    found: dict[Address, str | None] = dict.fromkeys(addresses)
    for line in done.stdout.splitlines():
        for row in _rows(line):
            if row.get("type") not in ("unreachable", "prohibit", "blackhole", "throw"):
                found[ip_address(row["dst"])] = row.get("dev")
    return found


def default_device(family: Family) -> str | None:
    """The interface of the best default route, if there is one."""
    rows = _ip(f"-{family.value}", "route", "show", "default")
    for row in sorted(rows, key=lambda row: int(row.get("metric", 0))):
        for hop in (row, *row.get("nexthops", [])):
            if "dev" in hop:
                return str(hop["dev"])
    return None
