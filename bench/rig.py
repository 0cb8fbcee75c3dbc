"""The rig: devices, gateway and nodes as three namespaces in a row, and one measurement through them.

    gen [net] --veth-- [wan] gateway [lan] --veth-- [net] sink

Everything runs on one core, the sender's: the generator fills a veth's ring, and the kernel empties it -
through the gateway's stack into the sink - before the next batch. So a rate is the inverse of what one packet
costs.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.libbpf import Program
from bench.namespaces import Namespace
from bench.programs import compile_program, require
from bench.traffic import (
    CLIENTS,
    VIP,
    Counts,
    Pattern,
    Progress,
    Scenario,
    Traffic,
    frame,
    node_address,
    traffic,
)

WAN, LAN, NET = "wan", "lan", "net"
_BATCH = 64  # as a NIC's driver hands them up; also how often the generator looks at the clock
_PRIME = (
    300_000  # more than conntrack holds by default (262,144): what is measured is the state it settles in
)
_WARM = 64_000  # enough for caches and the core's clock to settle
_PROBE = 32_000  # enough to tell the pace
_MAC = {name: bytes((2, 0, 0, 0, 0, at)) for at, name in enumerate(("gen", WAN, LAN, "sink"), start=1)}
_FIRST_HOP = {4: ("203.0.113.1/24", "203.0.113.2"), 6: ("2001:db8:a::1/64", "2001:db8:a::2")}
_LAN_ADDRESS = {4: "198.18.0.254/24", 6: "2001:db8:b::fe/64"}
_CLIENT_PREFIX = {4: "/8", 6: "/48"}
_serial = 0


@dataclass(frozen=True, slots=True)
class Site:
    """What a contender is told of the gateway that it shall set up."""

    family: int
    nodes: int
    wan: str = WAN
    lan: str = LAN


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one cell."""

    seconds: float
    sent: int
    delivered: int
    misrouted: int
    sampled: int
    bad: int
    conntrack: int
    silent: int  # nodes that nothing arrived at

    @property
    def mpps(self) -> float:
        return self.delivered / self.seconds / 1e6

    @property
    def dropped(self) -> int:
        return max(0, self.sent - self.delivered)


class _End:
    """An outer veth end: what is sent from it and what arrives at it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._next = 0
        self.generator = Program(compile_program("gen"), "generate")
        self.sink = Program(compile_program("sink"), "sink")
        with namespace.entered():
            self.ifindex = socket.if_nametoindex(NET)
            # First the sink: without a program the veth has no queue that live frames could be from.
            self.sink.attach(self.ifindex)

    def close(self) -> None:
        self.generator.close()
        self.sink.close()

    def send(self, cell: Traffic, packets: int) -> float:
        """Send so many packets (rounded to batches); return the seconds it took."""
        template = frame(cell.family)
        self.generator.write("traffic", bytes(cell))
        self._next += packets
        self.generator.write_percpu("progress", bytes(Progress(next=self._next - packets)))
        with self.namespace.entered():
            self.generator.send_live(template, self.ifindex, packets, _BATCH)
        done = [
            Progress.from_buffer_copy(one)
            for one in self.generator.read_percpu("progress", ctypes.sizeof(Progress))
        ]
        # The clock was last read with the first packet of the last batch.
        return max(one.seen - one.began for one in done) / 1e9 * packets / (packets - _BATCH)

    def expect(self, cell: Traffic) -> None:
        """Start counting what arrives here anew."""
        self.sink.write("traffic", bytes(cell))
        self.sink.write_percpu("counts", bytes(Counts()))
        for node in range(1, cell.nodes + 1):
            self.sink.write_percpu("per_node", bytes(8), node)

    def counts(self) -> Counts:
        total = Counts()
        for one in self.sink.read_percpu("counts", ctypes.sizeof(Counts)):
            values = Counts.from_buffer_copy(one)
            for field in ("packets", "misrouted", "sampled", "bad", "foreign"):
                setattr(total, field, getattr(total, field) + getattr(values, field))
        return total

    def silent(self, nodes: int) -> int:
        """Return how many nodes met nothing: a rate through one node of 250 would be another measurement."""
        return sum(
            not any(map(any, self.sink.read_percpu("per_node", 8, node))) for node in range(1, nodes + 1)
        )


class Rig:
    """Three namespaces and their wiring for one family and number of nodes; a context manager."""

    def __init__(self, site: Site) -> None:
        global _serial  # names must differ within the process as well as between processes
        _serial += 1
        self.site = site
        prefix = f"pmbench-{os.getpid()}-{_serial}"
        self.gen = Namespace(f"{prefix}-gen")
        self.gateway = Namespace(f"{prefix}-gw")
        self.sink = Namespace(f"{prefix}-sink")
        self._stack = ExitStack()

    def __enter__(self) -> Rig:
        require("ethtool", "ethtool")
        with ExitStack() as stack:
            for namespace in (self.gen, self.gateway, self.sink):
                stack.enter_context(namespace)
            self._wire()
            self._devices = _End(self.gen)
            stack.callback(self._devices.close)
            self._nodes = _End(self.sink)
            stack.callback(self._nodes.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wire(self) -> None:
        family = self.site.family
        quiet = {
            f"net.ipv6.conf.default.{key}": 0 for key in ("accept_dad", "accept_ra", "router_solicitations")
        }
        self.gateway.sysctl(quiet)
        for outer, name, inner in ((self.gen, "gen", WAN), (self.sink, "sink", LAN)):
            outer.sysctl(quiet)
            near = f"name {inner} address {_colons(_MAC[inner])} netns {self.gateway.name}"
            outer.ip([f"link add {NET} address {_colons(_MAC[name])} type veth peer {near}"])
            outer.ip([f"link set {NET} up"])
            self.gateway.ip([f"link set {inner} up"])
            # GRO is what gives a veth end without an XDP program its NAPI; live frames are dropped without.
            self.gateway.run(["ethtool", "-K", inner, "gro", "on"])
        address, hop = _FIRST_HOP[family]
        sink = _colons(_MAC["sink"])
        nodad = " nodad" if family == 6 else ""
        vip = f"{VIP[family]}/{VIP[family].max_prefixlen}"
        self.gateway.ip([
            f"addr add {address} dev {WAN}{nodad}",
            f"addr add {vip} dev {WAN}{nodad}",
            f"addr add {_LAN_ADDRESS[family]} dev {LAN}{nodad}",
            f"neigh replace {hop} lladdr {_colons(_MAC['gen'])} dev {WAN} nud permanent",
            f"route add {CLIENTS[family]}{_CLIENT_PREFIX[family]} via {hop} dev {WAN}",
            # No neighbour discovery: the sinks answer nothing.
            *(
                f"neigh replace {node_address(family, node)} dev {LAN} lladdr {sink} nud permanent"
                for node in range(1, self.site.nodes + 1)
            ),
        ])  # fmt: skip
        self.gateway.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})

    def measure(self, scenario: Scenario, window: float, *, direct: bool) -> Sample:
        """Run one round: a warm-up of every flow (at most what fills conntrack), then ``window`` seconds."""

        def cell(*, reply: bool) -> Traffic:
            if reply:
                return traffic(
                    scenario, reply=True, direct=direct, source=_MAC["sink"], destination=_MAC[LAN]
                )
            return traffic(scenario, reply=False, direct=direct, source=_MAC["gen"], destination=_MAC[WAN])

        prime = _PRIME if scenario.pattern is Pattern.NEW else min(scenario.flows, _PRIME)
        prime = _batches(max(prime, _WARM))
        pace = prime / self._devices.send(cell(reply=False), prime)
        sender, receiver = self._devices, self._nodes
        if scenario.reply:  # after the requests, as a stateful gateway needs it
            sender, receiver = receiver, sender
        if scenario.pattern is not Pattern.NEW:
            # A stateful gateway is faster now than while it learned the flows: the window's length wants this pace.
            pace = _PROBE / sender.send(cell(reply=scenario.reply), _PROBE)
        measured = cell(reply=scenario.reply)
        receiver.expect(measured)
        sent = _batches(pace * window)
        seconds = sender.send(measured, sent)
        time.sleep(0.002)  # what is still in a ring arrives
        counts = receiver.counts()
        return Sample(
            seconds, sent, counts.packets, counts.misrouted, counts.sampled, counts.bad,
            self.gateway.conntrack_entries(), 0 if scenario.reply else receiver.silent(scenario.nodes),
        )  # fmt: skip


def _colons(mac: bytes) -> str:
    return mac.hex(":")


def _batches(packets: float) -> int:
    return max(1, round(packets / _BATCH)) * _BATCH
