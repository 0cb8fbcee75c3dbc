"""Addresses, links and routes, by iproute2's JSON."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pointsman.kernel.errors import KernelError
from pointsman.model import Address


@dataclass(frozen=True, slots=True)
class Link:
    """``kind`` is iproute2's word for a virtual device (bridge, bond, vlan, vrf), else ""."""

    name: str
    mtu: int
    mac: bytes
    kind: str
    up: bool


def _ip(*arguments: str) -> Any:
    try:
        done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KernelError("the command ip is missing; install the package iproute2") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise KernelError(f"ip {' '.join(arguments)}: {lines[0]}")
    return json.loads(done.stdout) if done.stdout.strip() else []


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
            row.get("linkinfo", {}).get("info_kind", ""),
            "UP" in row.get("flags", []),
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


def device_to(address: Address) -> str | None:
    """The interface that packets to ``address`` leave by, or None where no route leads there."""
    try:
        rows = _ip("route", "get", str(address))
    except KernelError:
        return None
    return rows[0].get("dev") if rows else None
