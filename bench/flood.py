"""A flood of junk and of spoofed ClientHellos into a gateway, by an interface and on a core of its own."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from bench.contenders import Pointsman
from bench.namespaces import Namespace
from bench.rig import NET, End, Rig, Site
from bench.traffic import CLIENTS, MAC, WAN, Kind, Pattern, Scenario, Traffic, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACE = "flood0"
_BURST = 640_000  # packets of one kind before the other's turn: the kernel takes 20 ms to begin anew
_ADDRESS = {4: "172.31.0.1/30", 6: "2001:db8:f::1/64"}
_HOP = {4: "172.31.0.2", 6: "2001:db8:f::2"}
# RFC 6598; a lab's nodes may be in 10/8.
SPOOFED = {4: IPv4Address("100.64.0.0"), 6: CLIENTS[6]}
_PREFIX = {4: 10, 6: 64}


def on_core(core: int) -> None:
    """Keep this thread, and what it starts from now on, on one core."""
    os.sched_setaffinity(0, {core})


def nftables_forwards(family: int, core: int, window: float = 0.5) -> float:
    """Return how many records a second the nftables plane forwards in the rig, on this core alone."""
    site = Site(family, 3)
    plane = Pointsman()
    before = os.sched_getaffinity(0)
    on_core(core)
    try:
        with Rig(site) as rig:
            plane.setup(rig.gateway, site)
            sample = rig.measure(Scenario(family, 3, 10_000), window, direct=False)
            plane.teardown(rig.gateway)
    finally:
        os.sched_setaffinity(0, before)
    return sample.delivered / sample.seconds


class Flood:
    """A generator behind an interface of its own in somebody's gateway; a context manager.

    Half of its packets are junk, half the same ClientHello, from four million addresses that are not its own. What is
    answered is dropped.
    """

    def __init__(self, gateway: str, family: int, core: int) -> None:
        self._gateway = Namespace(gateway)
        self._namespace = Namespace(f"pmbench-{os.getpid()}-flood")
        self._family, self._core = family, core
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="flood")
        self._stack = ExitStack()
        self.sent = 0
        self.seconds = 0.0
        self._failed: BaseException | None = None

    @property
    def rate(self) -> float:
        """Packets a second that were sent, over all of the time."""
        return self.sent / self.seconds if self.seconds else 0.0

    def __enter__(self) -> Flood:
        with ExitStack() as stack:
            stack.enter_context(self._namespace)
            self._wire()
            # A namespace that is deleted keeps its interfaces for a while.
            stack.callback(self._gateway.ip, [f"link del {INTERFACE}"])
            self._end = End(self._namespace)
            stack.callback(self._end.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.stop()

    def start(self) -> None:
        """Begin to send, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; raise what made it fail."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if failed := self._failed:
            self._failed = None
            raise failed

    def _wire(self) -> None:
        quiet = {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.accept_ra": 0}
        self._namespace.sysctl(quiet)
        near = f"name {INTERFACE} address {MAC[WAN].hex(':')} netns {self._gateway.name}"
        self._namespace.ip([
            f"link add {NET} address {MAC['gen'].hex(':')} type veth peer {near}",
            f"link set {NET} up",
        ])  # fmt: skip
        family, nodad = self._family, " nodad" if self._family == 6 else ""
        self._gateway.run(["ethtool", "-K", INTERFACE, "gro", "on"])
        self._gateway.ip([
            f"link set {INTERFACE} up",
            f"addr add {_ADDRESS[family]} dev {INTERFACE}{nodad}",
            f"neigh replace {_HOP[family]} lladdr {MAC['gen'].hex(':')} dev {INTERFACE} nud permanent",
            f"route add {SPOOFED[family]}/{_PREFIX[family]} via {_HOP[family]} dev {INTERFACE}",
        ])  # fmt: skip

    def _send(self) -> None:
        try:
            on_core(self._core)
            for cell in self._cells():
                began = time.monotonic()
                self._end.send(cell, _BURST)
                self.seconds += time.monotonic() - began
                self.sent += _BURST
                if self._over.is_set():
                    return
        except Exception as error:
            self._failed = error

    def _cells(self) -> Iterator[Traffic]:
        cells = []
        for kind in (Kind.UDP, Kind.HELLO):
            scenario = Scenario(self._family, 2, 1 << 22, Pattern.NEW, kind=kind)
            cell = traffic(scenario, reply=False, direct=False, source=MAC["gen"], destination=MAC[WAN])
            cell.client_base[:] = SPOOFED[self._family].packed.ljust(16, b"\0")
            cell.vip_port[:] = Kind.HELLO.port.to_bytes(2)
            cells.append(cell)
        while True:
            yield from cells
