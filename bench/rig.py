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
    LAN,
    MAC,
    OTHER_NODES,
    VIP,
    WAN,
    Counts,
    Kind,
    Pattern,
    Progress,
    Scenario,
    Traffic,
    frame,
    node_address,
    traffic,
)

NET = "net"
_BATCH = 64  # as a NIC's driver hands them up; also how often the generator looks at the clock
_PRIME = (
    300_000  # more than conntrack holds by default (262,144): what is measured is the state it settles in
)
_WARM = 64_000  # enough for caches and the core's clock to settle
_FLOWS = 1 << 22  # bytes of the map of the flows' nodes, as in rig.h
_PROBE = 32_000  # enough to tell the pace
_FIRST_HOP = {4: ("203.0.113.1/24", "203.0.113.2"), 6: ("2001:db8:a::1/64", "2001:db8:a::2")}
_LAN_ADDRESS = {4: "198.18.0.254/24", 6: "2001:db8:b::fe/64"}
_CLIENT_PREFIX = {4: "/8", 6: "/48"}
_OTHERS_PREFIX = {4: "/16", 6: "/64"}
_serial = 0


@dataclass(frozen=True, slots=True)
class Site:
    """What a contender is told of the gateway that it shall set up."""

    family: int
    nodes: int
    wan: str = WAN
    lan: str = LAN
    kinds: tuple[Kind, ...] = (Kind.CID,)  # of the services under measurement; one for each
    services: int = 1  # the first of `kinds` among so many of its kind
    flows: int = 0  # to be remembered at once by each listener, with room to spare; 0: as it comes

    @classmethod
    def of(cls, scenario: Scenario) -> Site:
        remembered = scenario.kind is not Kind.CID
        return cls(
            scenario.family,
            scenario.nodes,
            kinds=(scenario.kind,),
            services=scenario.services,
            flows=scenario.flows if remembered else 0,
        )

    @property
    def kind(self) -> Kind:
        return self.kinds[0]


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one cell."""

    seconds: float
    sent: int
    delivered: int
    misrouted: int
    sampled: int
    bad: int
    moved: int
    refused: int  # packets of later flows that a full table let nobody have
    conntrack: int
    silent: int  # nodes that nothing arrived at

    @property
    def mpps(self) -> float:
        return self.delivered / self.seconds / 1e6

    @property
    def dropped(self) -> int:
        return max(0, self.sent - self.delivered)


class End:
    """An outer veth end: what is sent from it and what arrives at it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._next = 0
        self.started = 0
        self.sink = Program(compile_program("sink"), "sink")
        flow_nodes = {"flow_nodes": self.sink.map_fd("flow_nodes")}
        self.generator = Program(compile_program("gen"), "generate", reuse=flow_nodes)
        with namespace.entered():
            self.ifindex = socket.if_nametoindex(NET)
            # First the sink: without a program the veth has no queue that live frames could be from.
            self.sink.attach(self.ifindex)

    def close(self) -> None:
        self.generator.close()
        self.sink.close()

    def send(self, cell: Traffic, packets: int, start: int | None = None) -> float:
        """Send so many packets (rounded to batches); return the seconds it took.

        The flows go on where the last ones ended, or with number ``start``.
        """
        self.started = self._next if start is None else start
        self._next = self.started + packets
        self.generator.write("traffic", bytes(cell))
        self.generator.write_percpu("progress", bytes(Progress(next=self.started)))
        template = frame(cell)
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

    def forget_flows(self) -> None:
        with self.sink.mapped("flow_nodes", _FLOWS) as memory:
            memory[:] = bytes(_FLOWS)

    def counts(self) -> Counts:
        total = Counts()
        for one in self.sink.read_percpu("counts", ctypes.sizeof(Counts)):
            values = Counts.from_buffer_copy(one)
            for field in ("packets", "misrouted", "sampled", "bad", "moved", "foreign"):
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
            self._devices = End(self.gen)
            stack.callback(self._devices.close)
            self._nodes = End(self.sink)
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
            near = f"name {inner} address {_colons(MAC[inner])} netns {self.gateway.name}"
            outer.ip([f"link add {NET} address {_colons(MAC[name])} type veth peer {near}"])
            outer.ip([f"link set {NET} up"])
            self.gateway.ip([f"link set {inner} up"])
            # GRO is what gives a veth end without an XDP program its NAPI; live frames are dropped without.
            self.gateway.run(["ethtool", "-K", inner, "gro", "on"])
        address, hop = _FIRST_HOP[family]
        sink = _colons(MAC["sink"])
        nodad = " nodad" if family == 6 else ""
        vip = f"{VIP[family]}/{VIP[family].max_prefixlen}"
        self.gateway.ip([
            f"addr add {address} dev {WAN}{nodad}",
            f"addr add {vip} dev {WAN}{nodad}",
            f"addr add {_LAN_ADDRESS[family]} dev {LAN}{nodad}",
            f"route add {OTHER_NODES[family]}{_OTHERS_PREFIX[family]} dev {LAN}",
            f"neigh replace {hop} lladdr {_colons(MAC['gen'])} dev {WAN} nud permanent",
            f"route add {CLIENTS[family]}{_CLIENT_PREFIX[family]} via {hop} dev {WAN}",
            # No neighbour discovery: the sinks answer nothing.
            *(
                f"neigh replace {node_address(family, node)} dev {LAN} lladdr {sink} nud permanent"
                for node in range(1, self.site.nodes * len(self.site.kinds) + 1)
            ),
        ])  # fmt: skip
        self.gateway.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})

    def flood(self, scenario: Scenario, packets: int) -> float:
        """Send so many packets from the devices' side, wherever they end; return the seconds it took."""
        cell = traffic(scenario, reply=False, direct=False, source=MAC["gen"], destination=MAC[WAN])
        return self._devices.send(cell, _batches(packets))

    def measure(self, scenario: Scenario, window: float, *, direct: bool, prime_all: bool = False) -> Sample:
        """Run one round: a warm-up of every flow (at most what fills conntrack), then ``window`` seconds.

        ``prime_all``: the contender remembers flows for longer than a round, and this is its first with these.
        """

        def cell(*, reply: bool, syn: bool = False, learn: bool = False) -> Traffic:
            source, destination = (MAC["sink"], MAC[LAN]) if reply else (MAC["gen"], MAC[WAN])
            return traffic(
                scenario, reply=reply, direct=direct, source=source, destination=destination, syn=syn, learn=learn
            )  # fmt: skip

        prime = _PRIME if scenario.pattern is Pattern.NEW else min(scenario.flows, _PRIME)
        prime = _batches(max(prime, _WARM))
        if prime_all and scenario.kind is not Kind.CID:
            prime = max(prime, _batches(scenario.flows) + _BATCH)
        if scenario.kind is not Kind.CID:
            self._nodes.forget_flows()
        handshake = scenario.kind is Kind.TCP
        first = cell(reply=False, syn=handshake, learn=True)
        self._nodes.expect(first)
        pace = prime / self._devices.send(first, prime)
        start = None if scenario.kind is Kind.CID else self._devices.started
        if handshake:
            # Connection tracking takes no data for established before the answer. Same flows, same order.
            self._nodes.send(cell(reply=True, syn=True), prime, start)
            self._devices.send(cell(reply=False), prime, start)
        crowded = scenario.kind is not Kind.CID and scenario.flows > 2 * _PRIME
        refused = 0
        if crowded:  # others speak: a full table forgets whom the measurement begins with, or refuses them
            others = cell(reply=False)
            self._nodes.expect(others)
            self._devices.send(others, _batches(_PRIME))
            time.sleep(0.002)
            refused = max(0, _batches(_PRIME) - self._nodes.counts().packets)
        sender, receiver = self._devices, self._nodes
        if scenario.reply:  # after the requests, as a stateful gateway needs it
            sender, receiver = receiver, sender
        if scenario.pattern is not Pattern.NEW:
            # A stateful gateway is faster now than while it learned the flows: the window's length wants this pace.
            probe = cell(reply=scenario.reply)
            pace = _PROBE / sender.send(probe, _PROBE, None if crowded else start)
        measured = cell(reply=scenario.reply)
        receiver.expect(measured)
        sent = _batches(pace * window)
        # From the first flow of the warm-up on: its node is known.
        seconds = sender.send(measured, sent, start)
        time.sleep(0.002)  # what is still in a ring arrives
        counts = receiver.counts()
        return Sample(
            seconds, sent, counts.packets, counts.misrouted, counts.sampled, counts.bad, counts.moved, refused,
            self.gateway.conntrack_entries(), 0 if scenario.reply else receiver.silent(scenario.nodes),
        )  # fmt: skip


def _colons(mac: bytes) -> str:
    return mac.hex(":")


def _batches(packets: float) -> int:
    return max(1, round(packets / _BATCH)) * _BATCH
