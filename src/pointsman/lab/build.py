"""Building a lab, working in it, and leaving nothing behind."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from weakref import WeakSet

from pointsman.api.place import ROOT as ASKED
from pointsman.kernel import bpffs, netns
from pointsman.kernel.errors import KernelError
from pointsman.lab import control_groups, counters, processes, state
from pointsman.lab.capture import Capture
from pointsman.lab.commands import building, port_name, tearing_down
from pointsman.lab.errors import LabError
from pointsman.lab.inside import NAMESPACES, inside, read_sysctl, write_sysctl
from pointsman.lab.nat import Nat
from pointsman.lab.offload import Offload, set_offload
from pointsman.lab.processes import Process
from pointsman.lab.run import feed, ip_batch, require
from pointsman.lab.state import State
from pointsman.lab.topology import Topology, check_name, namespace, parse_namespace
from pointsman.reconcile.state import ROOT as APPLIED

Stream = int | IO[str] | IO[bytes] | None


class Lab:
    """A lab that is up. Machines are called by their short names: gw, client, n1, nat1, dev1, sw.

    As a context manager it is taken down at the end of the block; otherwise it stays until somebody takes
    it down.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._children: list[tuple[subprocess.Popen[str], Process]] = []
        self._record = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()

    @classmethod
    def up(cls, topology: Topology) -> Self:
        """Build the lab; what fails half-way is taken down again."""
        require("ip", *(["nft"] if topology.nats else []))
        if present := existing(topology.name):
            raise LabError(
                f"lab {topology.name} is up already ({present[0]}); "
                f"end it with: pointsman lab down {topology.name}"
            )
        state.claim(State(topology))
        try:
            _build(topology)
            state.save(State(topology, complete=True))
        except BaseException:
            take_down(topology.name)
            raise
        return cls(topology)

    @classmethod
    def attach(cls, name: str) -> Self:
        """Use a lab that another process has built."""
        found = state.load(check_name(name))
        if found is None:
            raise LabError(f"there is no lab {name}; pointsman lab up --name {name} builds it")
        return cls(found.topology)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.down()

    @property
    def name(self) -> str:
        return self.topology.name

    @property
    def scratch(self) -> Path:
        """A directory for temporary files that goes with the lab."""
        path = state.scratch(self.name)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def down(self) -> None:
        """End the lab's processes, close the sockets made with ``socket`` and remove namespaces and files."""
        for handle in list(self._sockets):  # an open socket would keep its namespace alive
            handle.close()
        take_down(self.name)
        for child, _ in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
        self._children.clear()

    def control_group(self, name: str) -> Path:
        """A control group of the machine's, by its path below the root, that goes with the lab."""
        _ = self.scratch
        return control_groups.make(name, _control_groups(self.name))

    def namespace(self, machine: str) -> str:
        if machine != "sw":
            self.topology.machine(machine)
        return namespace(self.name, machine)

    def address(self, machine: str, family: int, interface: str | None = None) -> str:
        """The machine's first address of a family (4 or 6), on its first interface unless one is named."""
        return self.topology.address(machine, family, interface)

    def nat(self, number: int) -> Nat:
        return Nat(self.topology, number)

    def inside(self, machine: str) -> AbstractContextManager[None]:
        """Run a block with the current thread in the machine's namespace."""
        return inside(self.namespace(machine))

    def socket(self, machine: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives on the machine, for use from this process."""
        with self.inside(machine):
            handle = socket.socket(family, kind, protocol)
        self._sockets.add(handle)
        return handle

    def capture(self, machine: str, interface: str, *, outgoing: bool = True) -> Capture:
        return Capture(self.namespace(machine), interface, outgoing=outgoing)

    def popen(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a process on the machine; it ends with the lab. Its streams are text, a line at a time."""
        with self.inside(machine):
            child = subprocess.Popen(
                argv, text=True, bufsize=1, stdin=stdin, stdout=stdout, stderr=stderr, env=env
            )
        with self._record:
            if known := processes.identify(child.pid):
                self._children.append((child, known))
            self._children = [each for each in self._children if each[0].poll() is None]
            running = tuple(process for _, process in self._children)
            state.save(State(self.topology, processes=running, complete=True))
        return child

    def run(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        text: str | None = None,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine to its end, ``text`` on its standard input; its output is captured."""
        with self.inside(machine):
            done = subprocess.run(
                argv, input=text, text=True, capture_output=True, timeout=timeout, env=env, check=False
            )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{machine}: {' '.join(argv)}: exit status {done.returncode}: {said}")
        return done

    def sysctl(self, machine: str, key: str, value: str | None = None) -> str:
        """Read a ``net.`` sysctl of the machine, after setting it where a value is given."""
        with self.inside(machine):
            if value is not None:
                write_sysctl(key, value)
            return read_sysctl(key)

    def offload(self, machine: str, interface: str, offload: Offload, *, on: bool) -> None:
        with self.inside(machine):
            set_offload(interface, offload, on=on)

    def counters(self, machine: str) -> dict[str, int]:
        """The machine's SNMP counters: UdpInDatagrams, Udp6InErrors, Ip6InReceives, ..."""
        with self.inside(machine):
            return counters.read()

    def checksum_errors(self) -> dict[str, int]:
        """Datagrams with a wrong UDP checksum, by the machine that received them; empty when all is well."""
        totals = {each.name: counters.total(self.counters(each.name)) for each in self.topology.machines}
        return {name: total for name, total in totals.items() if total}


def existing(name: str) -> list[str]:
    """The namespaces there are of a lab, whether or not it has a file."""
    present = (path.name for path in NAMESPACES.glob(f"pm-{name}-*"))
    own = [each for each in present if (found := parse_namespace(each)) and found[0] == name]
    return sorted(own, key=lambda each: (each.rstrip("0123456789"), len(each), each))  # n2 before n10


def names() -> list[str]:
    """All labs there is anything of."""
    found = (parse_namespace(path.name) for path in NAMESPACES.glob("pm-*"))
    return sorted({lab for lab, _ in filter(None, found)} | set(state.names()))


def take_down(name: str) -> bool:
    """Remove whatever there is of a lab, built by whomever, also half; tell whether there was anything."""
    require("ip")
    namespaces = existing(check_name(name))
    recorded = state.load(name)
    left = {*processes.within(namespaces), *(recorded.processes if recorded else ())}
    for _ in range(5):  # one that ended may have started another meanwhile
        if not left:
            break
        processes.end(left)
        left = set(processes.within(namespaces))
    for each in namespaces:
        _forget_applied(each)
    control_groups.remove(_control_groups(name))
    try:
        ip_batch(tearing_down(namespaces), force=True)
    except LabError:
        if existing(name):  # and not merely somebody else who was faster
            raise
    return state.remove(name) or bool(namespaces)


def _control_groups(name: str) -> Path:
    """The file that says which the lab made."""
    return state.scratch(name) / "control-groups"


def _forget_applied(each: str) -> None:
    """Remove what ``pointsman apply`` remembered of a namespace: with the namespace, all of it goes."""
    with suppress(OSError, LabError, KernelError):
        with inside(each):
            key = netns.cookie() or Path("/proc/thread-self/ns/net").stat().st_ino
        for root in (APPLIED, ASKED):
            shutil.rmtree(root / f"netns-{key}", ignore_errors=True)
        for folder in (f"netns-{key}", f"decap-{key}", f"multihome-netns-{key}"):
            if (pins := bpffs.existing(folder)) is not None:
                bpffs.remove(pins)
        APPLIED.rmdir()  # where nothing else is applied on this machine


def _build(topology: Topology) -> None:
    script = building(topology)
    ip_batch(script.create)
    for each in script.inside:
        with inside(each.namespace):
            for line in each.sysctls:
                write_sysctl(*line.split("=", 1))
    ip_batch(script.wire)
    for each in script.inside:
        with inside(each.namespace):
            ip_batch(each.ip)
            if each.nft:
                feed(["nft", "-f", "-"], each.nft)
    with inside(namespace(topology.name, "sw")):
        gateway = topology.machine("gw")
        for plug in gateway.interfaces:
            # A veth takes what XDP redirects to it only if its other end has NAPI, which GRO turns on.
            set_offload(port_name(gateway, plug), Offload.GRO, on=True)
    with inside(namespace(topology.name, "gw")):
        for plug in gateway.interfaces:
            # And keeps what waits in its queue when the program comes or goes only if it has NAPI either way.
            set_offload(plug.name, Offload.GRO, on=True)
    if not topology.offload:
        for machine in topology.machines:
            with inside(namespace(topology.name, machine.name)):
                for plug in machine.interfaces:
                    set_offload(plug.name, Offload.TX_CHECKSUM, on=False)
