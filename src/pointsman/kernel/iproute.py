"""Addresses, links and routes, by iproute2's JSON."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pointsman.kernel.errors import KernelError
from pointsman.model import Address, Family

LOOKS, PAUSE = 100, 0.02
"""How often, and after how many seconds, an address's route is looked for."""


@dataclass(frozen=True, slots=True)
class Link:
    """``kind`` and ``master_kind`` are iproute2's words (bridge, bond, vrf); ``master`` is what it is enslaved to.

    ``lower`` is the device that a VLAN is on.
    """

    name: str
    mtu: int
    mac: bytes
    up: bool
    kind: str = ""
    master: str = ""
    master_kind: str = ""
    index: int = 0
    lower: str = ""
    vlan: int = 0


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
            int(row["ifindex"]),
            row.get("link", ""),
            row.get("linkinfo", {}).get("info_data", {}).get("id", 0) if _is_vlan(row) else 0,
        )
    return found


def _is_vlan(row: Any) -> bool:
    return bool(row.get("linkinfo", {}).get("info_kind") == "vlan")


def addresses() -> dict[Address, str]:
    """Every address of this machine and the interface that carries it."""
    return {
        ip_address(entry["local"]): row["ifname"]
        for row in _ip("address", "show")
        for entry in row.get("addr_info", [])
        if "local" in entry
    }


def all_addresses() -> list[tuple[Address, int, str]]:
    """Every address of this machine with its prefix length and interface; one address may be on several."""
    return [
        (ip_address(entry["local"]), int(entry["prefixlen"]), row["ifname"])
        for row in _ip("address", "show")
        for entry in row.get("addr_info", [])
        if "local" in entry
    ]


def add_to_loopback(address: Address) -> None:
    """Carry the address alone where nobody asks for it, and never as the source of what is sent unbidden."""
    options = ["nodad", "preferred_lft", "0"] if address.version == 6 else []
    _ip("address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo", *options)
    # IPv6 makes an address's route a moment later, and what comes meanwhile is answered as unreachable.
    for _ in range(LOOKS):
        row = _routes_to([address], None)[address]
        if row is not None and row.get("type") == "local":
            break
        time.sleep(PAUSE)


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
    rows = _routes_to(addresses, vrf)
    return {address: row.get("dev") if row is not None else None for address, row in rows.items()}


def ways_to(addresses: Sequence[Address]) -> dict[Address, tuple[str, Address | None]]:
    """The interface that packets to each address leave by, and the source that they get; without those to nowhere."""
    return {
        address: (row["dev"], ip_address(row["prefsrc"]) if "prefsrc" in row else None)
        for address, row in _routes_to(addresses, None).items()
        if row is not None and "dev" in row
    }


def routers_to(addresses: Sequence[Address]) -> dict[Address, str]:
    """The next hop to each address that is on no link of this machine."""
    rows = _routes_to(addresses, None)
    return {
        address: row.get("gateway") or row["via"]["host"]
        for address, row in rows.items()
        if row is not None and ("gateway" in row or "via" in row)
    }


def _routes_to(addresses: Sequence[Address], vrf: str | None) -> dict[Address, Any]:
    """iproute2's row for each, None where no route leads there; all in one go."""
    if not addresses:
        return {}
    within = f" vrf {vrf}" if vrf else ""
    batch = "".join(f"route get {address}{within}\n" for address in addresses)
    done = _run("-force", "-batch", "-", text=batch)  # it fails where one of the look-ups does
    found: dict[Address, Any] = dict.fromkeys(addresses)
    for line in done.stdout.splitlines():
        for row in _rows(line):
            if row.get("type") not in ("unreachable", "prohibit", "blackhole", "throw"):
                found[ip_address(row["dst"])] = row
    return found


def sources_to(addresses: Sequence[Address]) -> set[Address]:
    """The addresses that the kernel gives to connections of this machine to any of them, where they name none."""
    if not addresses:
        return set()
    done = _run("-force", "-batch", "-", text="".join(f"route get {address}\n" for address in addresses))
    rows = (row for line in done.stdout.splitlines() for row in _rows(line))
    return {ip_address(row["prefsrc"]) for row in rows if "prefsrc" in row}


def routes_by_more_than_destination() -> bool:
    """Whether there are policy rules beside those that the kernel makes itself (local, main, default, VRFs')."""
    known = {"local", "main", "default"}
    return any(
        (row.get("table") not in known and "l3mdev" not in row)
        or row.get("src", "all") != "all"
        or "fwmark" in row
        for family in Family
        for row in _ip(f"-{family.value}", "rule", "show")
    )


def default_device(family: Family) -> str | None:
    """The interface of the best default route, if there is one."""
    rows = _ip(f"-{family.value}", "route", "show", "default")
    for row in sorted(rows, key=lambda row: int(row.get("metric", 0))):
        for hop in (row, *row.get("nexthops", [])):
            if "dev" in hop:
                return str(hop["dev"])
    return None


def ask(*arguments: str) -> Any:
    """What ``ip`` answers, as its JSON has it; raise KernelError."""
    return _ip(*arguments)


def carry_out(family: Family, lines: Sequence[str]) -> None:
    """Carry out lines of an ``ip`` batch for one IP version; raise KernelError at the first that is refused."""
    if not lines:
        return
    done = _run(f"-{family.value}", "-batch", "-", text="".join(f"{line}\n" for line in lines))
    if done.returncode != 0:
        said = [line for line in done.stderr.strip().splitlines() if not line.startswith("Command failed")]
        raise KernelError(f"ip -{family.value}: {said[0] if said else 'no reason given'}")
