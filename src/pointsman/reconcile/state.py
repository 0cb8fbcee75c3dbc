"""What was applied, kept under /run: enough to compile it again, and to put the machine back."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pointsman import config, model, plan
from pointsman.kernel import netns
from pointsman.kernel.errors import KernelError
from pointsman.model import Node, NodeAddress, NodeState, NodeStates
from pointsman.model.abilities import NFTABLES
from pointsman.plan.host import CarriedAddress
from pointsman.plan.inputs import Capabilities, Leaving, Retired
from pointsman.plan.labels import Labels

VERSION = 3
READ = (2, VERSION)
"""Versions that are understood; 2 knows of no backup nodes; either may know of no shares and replacements."""
ROOT = Path("/run/pointsman")
ENVIRONMENT = "POINTSMAN_STATE_DIR"


class StrangeFileError(KernelError):
    """A file that was not written by this version, or was damaged since."""


def set_aside(path: Path) -> str:
    """Move a strange file out of the way and say so; raise KernelError."""
    kept = path.with_name(f"{path.name}.strange")
    try:
        path.replace(kept)
    except OSError as problem:
        raise KernelError(f"cannot move {path} away: {problem.strerror}") from None
    return f"{path} was damaged, or another version's; what it held is forgotten, and it is kept as {kept}"


@dataclass(frozen=True, slots=True)
class Departure:
    """A removed node and when it is let go; ``until`` is on the clock of ``now()``."""

    leaving: Leaving
    until: float


@dataclass(frozen=True, slots=True)
class Retirement:
    """A label that is a service's no more, and when the last flow that holds it is forgotten."""

    retired: Retired
    until: float


@dataclass(frozen=True, slots=True)
class AppliedState:
    """The inputs of the applied ruleset (so that it can be compiled again), and what the machine was before.

    ``text`` is None where nothing is applied but the machine is still to be put back. ``replacements`` are addresses
    of nodes that other machines have taken over, in place of the text's.
    """

    filename: str = ""
    text: str | None = None
    states: NodeStates = field(default_factory=NodeStates)
    labels: Labels = field(default_factory=Labels)
    departures: tuple[Departure, ...] = ()
    retirements: tuple[Retirement, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
    settings: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[CarriedAddress, ...] = ()
    dataplane: str = NFTABLES
    dataplane_reason: str = ""
    interfaces: tuple[str, ...] = ()
    clients_only: tuple[str, ...] = ()
    replacements: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def stamp(self) -> str:
        """Tell the tables that are made from this state, by this version's compilers, from any others."""
        machine = ("settings", "addresses", "dataplane_reason", "interfaces", "clients_only")
        made_from = {key: value for key, value in _to_json(self).items() if key not in machine}
        content = json.dumps(made_from, sort_keys=True).encode()
        return hashlib.blake2b(content, key=_compilers(), digest_size=16).hexdigest()


@cache
def _compilers() -> bytes:
    """A digest of the code that text becomes tables by: another version may make other tables of the same text."""
    code = hashlib.blake2b(digest_size=32)
    for package in (config, model, plan):
        for folder in package.__path__:
            for path in sorted(Path(folder).rglob("*.py")):
                code.update(path.read_bytes())
    return code.digest()


def now() -> float:
    """Seconds since the boot: /run does not outlive it, and nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def state_directory() -> Path:
    """One folder for each network namespace, so that several gateways fit on a machine."""
    if ENVIRONMENT in os.environ:
        return Path(os.environ[ENVIRONMENT])
    own = netns.folder()
    return ROOT / own if own else ROOT


class StateFile:
    """The state's file; hold ``locked()`` around everything that reads, changes and writes it.

    One that is ``patient`` belongs to a process that stays: what the disk does not take is held in memory, if it may
    be, and written as soon as the disk takes it.
    """

    def __init__(self, directory: Path | None = None, *, patient: bool = False) -> None:
        self._directory = directory or state_directory()
        self._file = self._directory / "applied.json"
        self._patient = patient
        self._held: tuple[AppliedState, AppliedState | None] | None = None
        self.unwritten = ""
        """Why the disk has not what is held in memory, "" where it has."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other Pointsman processes out; raise KernelError where the folder cannot be used."""
        handle = self._lock()
        try:
            if self._held is not None:
                self.write(*self._held, needed=False)
            yield
        finally:
            with suppress(OSError):  # in use: it holds the state
                self._directory.rmdir()
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    def _lock(self) -> int:
        while True:
            try:
                # Nobody else may open it, or hold the lock.
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # removed by the one who held the lock: again
            except OSError as problem:
                raise KernelError(f"cannot use {self._directory}: {problem.strerror}; run as root") from None
            try:
                if os.fstat(handle).st_uid != os.geteuid():
                    raise PermissionError(errno.EPERM, "it belongs to another user")
                if (
                    os.fstat(handle).st_mode & 0o777 != 0o700
                ):  # a file system that is read-only refuses in any case
                    os.fchmod(handle, 0o700)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if self._directory.stat().st_ino == os.fstat(handle).st_ino:
                    # A child that carries out a transaction keeps the lock if this process is killed.
                    os.set_inheritable(handle, True)  # noqa: FBT003 - its own signature
                    return handle
            except FileNotFoundError:
                pass  # removed by the one who held the lock: again
            except OSError as problem:
                os.close(handle)
                raise KernelError(f"cannot use {self._directory}: {problem.strerror}; run as root") from None
            os.close(handle)

    def read(self) -> tuple[AppliedState, AppliedState | None]:
        """The last applied state (an empty one if there is none), and the one that was being applied, if any.

        Raises KernelError where the file cannot be read or understood.
        """
        if self._held is not None:
            return self._held
        try:
            content = self._file.read_text(errors="replace")
        except FileNotFoundError:
            return AppliedState(), None
        except OSError as problem:
            raise KernelError(f"cannot read {self._file}: {problem.strerror}; run as root") from None
        try:
            data = json.loads(content)
            if data["version"] not in READ:
                raise ValueError(data["version"])
            pending = data["pending"]
            return _from_json(data["applied"]), None if pending is None else _from_json(pending)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StrangeFileError(
                f"{self._file} is not this version's; remove it, then `pointsman apply` starts afresh"
            ) from None

    def set_aside(self) -> list[str]:
        """Move the file away where it cannot be understood; what was done, in words."""
        try:
            self.read()
        except StrangeFileError:
            return [set_aside(self._file)]
        return []

    def write(self, state: AppliedState, pending: AppliedState | None = None, *, needed: bool = True) -> None:
        """Replace the file in one step, so that a killed process leaves the old one or the new one.

        What is not ``needed`` to put the machine back may be held in memory; else raises KernelError.
        """
        try:
            self._replace(state, pending)
        except KernelError as problem:
            if needed or not self._patient:
                raise
            self._held, self.unwritten = (state, pending), str(problem)
        else:
            self._held, self.unwritten = None, ""

    def _replace(self, state: AppliedState, pending: AppliedState | None) -> None:
        temporary = self._file.with_suffix(".new")
        data = {
            "version": VERSION,
            "applied": _to_json(state),
            "pending": None if pending is None else _to_json(pending),
        }
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump(data, out)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(self._file)
        except OSError as problem:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise KernelError(f"cannot write {self._file}: {problem.strerror}") from None

    def remove(self) -> None:
        self._held, self.unwritten = None, ""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as problem:
            raise KernelError(f"cannot remove {self._file}: {problem.strerror}") from None


def _node_to_json(node: Node) -> dict[str, Any]:
    addresses = [[str(own.address), own.port] for own in node.addresses]
    return {
        "name": node.name,
        "id": node.id,
        "weight": node.weight,
        "backup": node.backup,
        "addresses": addresses,
    }


def _node_from_json(data: dict[str, Any]) -> Node:
    addresses = tuple(NodeAddress(ip_address(address), port) for address, port in data["addresses"])
    return Node(data["name"], addresses, data["id"], data["weight"], data.get("backup", False))


def _to_json(state: AppliedState) -> dict[str, Any]:
    return {
        "filename": state.filename,
        "text": state.text,
        "states": [[service, node, str(value)] for (service, node), value in state.states.exceptions.items()],
        "shares": [[service, node, share] for (service, node), share in state.states.shares.items()],
        "labels": [
            [name, [str(address) for address in addresses], label]
            for (name, addresses), label in state.labels.by_node.items()
        ],
        "resting": [[label, until] for label, until in state.labels.resting.items()],
        "departures": [
            {
                "service": departure.leaving.service,
                "node": _node_to_json(departure.leaving.node),
                "label": departure.leaving.label,
                "seconds": departure.leaving.seconds,
                "until": departure.until,
            }
            for departure in state.departures
        ],
        "retirements": [[item.retired.service, item.retired.label, item.until] for item in state.retirements],
        "defragment_by_tproxy": state.capabilities.defragment_by_tproxy,
        "settings": dict(state.settings),
        "addresses": [[str(own.address), own.interface] for own in state.addresses],
        "dataplane": state.dataplane,
        "dataplane_reason": state.dataplane_reason,
        "interfaces": list(state.interfaces),
        "clients_only": list(state.clients_only),
        "replacements": [
            [service, node, list(texts)] for (service, node), texts in sorted(state.replacements.items())
        ],
    }


def _from_json(data: dict[str, Any]) -> AppliedState:
    departures = tuple(
        Departure(
            Leaving(row["service"], _node_from_json(row["node"]), row["label"], row["seconds"]),
            row["until"],
        )
        for row in data["departures"]
    )
    labels = {
        (name, tuple(ip_address(address) for address in addresses)): label
        for name, addresses, label in data["labels"]
    }
    return AppliedState(
        filename=data["filename"],
        text=data["text"],
        states=NodeStates(
            {(service, node): NodeState(value) for service, node, value in data["states"]},
            {(service, node): share for service, node, share in data.get("shares", ())},
        ),
        labels=Labels(labels, dict(data["resting"])),
        departures=departures,
        retirements=tuple(
            Retirement(Retired(service, label), until) for service, label, until in data["retirements"]
        ),
        capabilities=Capabilities(data["defragment_by_tproxy"]),
        settings=data["settings"],
        addresses=tuple(CarriedAddress(ip_address(address), name) for address, name in data["addresses"]),
        dataplane=data["dataplane"],
        dataplane_reason=data["dataplane_reason"],
        interfaces=tuple(data["interfaces"]),
        clients_only=tuple(data["clients_only"]),
        replacements={(service, node): tuple(texts) for service, node, texts in data.get("replacements", ())},
    )
