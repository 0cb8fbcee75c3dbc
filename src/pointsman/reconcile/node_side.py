"""Make this machine a node that answers clients by itself, and put it back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pointsman.kernel import decap, iproute, sysctl
from pointsman.kernel.errors import KernelError
from pointsman.model import Address, Node, Service
from pointsman.plan.node_setup import (
    LOOPBACK,
    End,
    Missing,
    NodeFacts,
    Tunnel,
    Wanted,
    missing,
    settings_read,
)
from pointsman.plan.xdp.abi import wire_address, wire_port
from pointsman.reconcile.state import StateFile, state_directory

FILE = "node.json"
NOTHING: Mapping[str, list[str]] = {"vips": [], "tunnels": []}


@dataclass(slots=True)
class Done:
    """What was done here: for whom (by ``service/node``), and how settings were before."""

    holders: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By holder, its ``vips`` and the keys of its ``tunnels`` in hexadecimal digits."""
    addresses: list[str] = field(default_factory=list)
    """Addresses that were not there before."""
    settings: dict[str, str] = field(default_factory=dict)


def read_facts(wanted: Wanted) -> NodeFacts:
    carried: dict[Address, set[str]] = {}
    alone = set()
    for address, length, interface in iproute.all_addresses():
        carried.setdefault(address, set()).add(interface)
        if interface == LOOPBACK and length == address.max_prefixlen:
            alone.add(address)
    links = [link for own in wanted.own for link in carried.get(own, ())]
    settings = {path: value for path in settings_read(links) if (value := sysctl.read(path)) is not None}
    by_key = {key_of(tunnel): tunnel for tunnel in wanted.tunnels}
    ends = decap.ends() if by_key else {}
    return NodeFacts(
        {address: frozenset(links) for address, links in carried.items()},
        frozenset(alone),
        settings,
        {link: frozenset(by_key[key] for key in keys & by_key.keys()) for link, keys in ends.items()},
    )


def key_of(tunnel: Tunnel) -> bytes:
    """Mirrors struct accepted of bpf/decap.bpf.c."""
    return decap.KEY.pack(
        wire_address(tunnel.source),
        wire_address(tunnel.destination),
        wire_address(tunnel.vip),
        wire_port(tunnel.port),
        0,
    )


def look(wanted: Wanted) -> Missing:
    """What this machine lacks to be the node; raise KernelError."""
    return missing(wanted, read_facts(wanted))


def apply(holder: str, wanted: Wanted) -> list[str]:
    """Do what is missing, and say what was done; raise KernelError. What is done is written down before.

    What an earlier file asked for the same holder, and nobody needs any more, is taken back.
    """
    with _record() as done:
        lacks = look(wanted)
        if lacks.troubles:
            raise KernelError("; ".join(lacks.troubles))
        before = done.holders.get(holder, NOTHING)
        now = {
            "vips": [str(vip) for vip in wanted.vips],
            "tunnels": [key_of(tunnel).hex() for tunnel in wanted.tunnels],
        }
        done.holders[holder] = {kind: list(dict.fromkeys(before[kind] + now[kind])) for kind in now}
        done.addresses = list(dict.fromkeys([*done.addresses, *map(str, lacks.addresses)]))
        for setting in lacks.settings:
            done.settings.setdefault(setting.path, sysctl.read(setting.path) or "0")
        _write(done)
        for vip in lacks.addresses:
            iproute.add_to_loopback(vip)
        for setting in lacks.settings:
            sysctl.write(setting.path, setting.value)
        for interface, keys in _by_interface(lacks.ends):
            decap.accept(interface, keys)
        done.holders[holder] = now
        said = _let_go(done, before)
        _write(done)
    return lacks.lines + said


def _by_interface(ends: Iterable[End]) -> list[tuple[str, list[bytes]]]:
    found: dict[str, list[bytes]] = {}
    for end in ends:
        found.setdefault(end.interface, []).append(key_of(end.tunnel))
    return sorted(found.items())


def remove(holder: str) -> list[str]:
    """Take back what was done for the holder and nobody else needs; say what. Raise KernelError."""
    with _record() as done:
        said = _let_go(done, done.holders.pop(holder, NOTHING))
        if not done.holders:
            for path, value in done.settings.items():
                if sysctl.read(path) not in (None, value):
                    sysctl.write(path, value)
                    said.append(f"{path} is {value} again")
            done.settings.clear()
        _write(done)
    return said


def _let_go(done: Done, gone: Mapping[str, list[str]]) -> list[str]:
    """Take back what no holder has any more, of what one had; say what."""
    said = []
    kept_vips = {vip for holder in done.holders.values() for vip in holder["vips"]}
    kept_tunnels = {key for holder in done.holders.values() for key in holder["tunnels"]}
    lost = [key for key in gone["tunnels"] if key not in kept_tunnels]
    if lost:
        decap.forget(bytes.fromhex(key) for key in lost)
        said.append(f"tunnels are taken off no more: {len(lost)}")
    for vip in [vip for vip in done.addresses if vip in gone["vips"] and vip not in kept_vips]:
        address = ip_address(vip)
        if iproute.carries(address, LOOPBACK):
            iproute.remove_address(address, LOOPBACK)
            said.append(f"{vip} is gone from {LOOPBACK}")
        done.addresses.remove(vip)
    return said


def node_of(services: Mapping[str, Service], which: str) -> tuple[Service, Node] | None:
    service, _, name = which.partition("/")
    found = services.get(service)
    node = found.node(name) if found is not None else None
    return None if found is None or node is None else (found, node)


@contextmanager
def _record() -> Iterator[Done]:
    with StateFile().locked():
        yield _read()


def _file() -> Path:
    return state_directory() / FILE


def _read() -> Done:
    try:
        data: dict[str, Any] = json.loads(_file().read_text())
        return Done(data["holders"], data["addresses"], data["settings"])
    except FileNotFoundError:
        return Done()
    except (OSError, ValueError, KeyError) as problem:
        raise KernelError(f"cannot read {_file()}: {problem}") from None


def _write(done: Done) -> None:
    path = _file()
    if not done.holders and not done.addresses and not done.settings:
        path.unlink(missing_ok=True)
        return
    data = {"holders": done.holders, "addresses": done.addresses, "settings": done.settings}
    temporary = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(data, out)
        temporary.replace(path)
    except OSError as problem:
        raise KernelError(f"cannot write {path}: {problem.strerror}") from None
