"""A gateway without traffic: two interfaces in a network namespace of its own, and the programs run by frame.

Next hops are real routes and permanent neighbours, so the programs find them as they would on a gateway.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from socket import if_nametoindex

from pointsman.config import parse
from pointsman.dataplane.xdp import XdpPlane, _settings, fill
from pointsman.dataplane.xdp_change import change
from pointsman.dataplane.xdp_connections import are_wanted, set_counting
from pointsman.dataplane.xdp_filters import Guarding
from pointsman.dataplane.xdp_maps import HASHES, MAIN, TRIES, MapSet
from pointsman.lab.inside import inside, write_sysctl
from pointsman.model import NodeState, NodeStates
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import Compiled, compile_listeners
from pointsman.plan.xdp.filter_compile import GuardEntry, guard_entries
from pointsman.plan.xdp.filter_place import PEERS, PREFIXES, FilterSizes
from pointsman.plan.xdp.place import Layout, sizes_for
from pointsman.plan.xdp.ports import port_table

ABORTED, DROP, PASS, TX, REDIRECT = 0, 1, 2, 3, 4

WAN_MAC, LAN_MAC, ROUTER_MAC = "02:00:00:00:01:01", "02:00:00:00:02:01", "02:00:00:00:01:fe"
NO_META = abi.PortFlag(8)
"""PORT_NO_META of bpf/abi.h, which the programs set by themselves."""

NODE_MACS = {f"n{number}": f"02:00:00:00:02:1{number}" for number in range(1, 4)}
CLIENT = {4: "198.51.100.7", 6: "2001:db8:c::7"}
VIP = {4: "192.0.2.10", 6: "2001:db8::10"}
NODES = {
    4: {name: f"10.0.0.1{name[1]}" for name in NODE_MACS},
    6: {name: f"fd00::1{name[1]}" for name in NODE_MACS},
}
UNRESOLVED = {4: "10.0.0.77", 6: "fd00::77"}
NOWHERE = {4: "203.0.113.99", 6: "2001:db8:dead::9"}
VLAN = 7

MACS = {"wan": WAN_MAC, "lan": LAN_MAC, "narrow": "02:00:00:00:03:01", "tagged": WAN_MAC}
"""The interfaces; ``tagged`` stands for a VLAN of wan, of which the kernel need have no driver here."""

LINKS = "link set lo up\n" + "".join(
    f"link add {name} address {mac} type veth peer name {name}-peer\nlink set {name} up\nlink set {name}-peer up\n"
    for name, mac in MACS.items()
)
ADDRESSES = f"""\
address add 192.0.2.1/24 dev wan
address add 192.0.2.10/32 dev wan
address add 2001:db8::1/64 dev wan nodad
address add 2001:db8::10/128 dev wan nodad
address add 10.0.0.1/24 dev lan
address add fd00::1/64 dev lan nodad
link set narrow mtu 1400
address add 10.3.0.1/24 dev narrow
address add fd03::1/64 dev narrow nodad
address add 10.7.0.1/24 dev tagged
address add fd07::1/64 dev tagged nodad
route add 198.51.100.0/24 via 192.0.2.254
route add 2001:db8:c::/64 via 2001:db8::fe
route add default via 192.0.2.254
route add default via 2001:db8::fe
route add prohibit 203.0.113.0/24
route add prohibit 2001:db8:dead::/64
neighbour add 192.0.2.254 lladdr {ROUTER_MAC} dev wan nud permanent
neighbour add 2001:db8::fe lladdr {ROUTER_MAC} dev wan nud permanent
neighbour add 10.3.0.11 lladdr 02:00:00:00:03:11 dev narrow nud permanent
neighbour add fd03::11 lladdr 02:00:00:00:03:11 dev narrow nud permanent
neighbour add 10.7.0.11 lladdr 02:00:00:00:07:11 dev tagged nud permanent
neighbour add fd07::11 lladdr 02:00:00:00:07:11 dev tagged nud permanent
""" + "".join(
    f"neighbour add {NODES[family][name]} lladdr {mac} dev lan nud permanent\n"
    for name, mac in NODE_MACS.items()
    for family in (4, 6)
)

COAPS = """
[gateway]
name = "edge"
hash_seed = "6f1d20c4"
flow_memory = 4096
[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684", "[2001:db8::10]:5684"]
connection_id = { offset = 0, bits = 8, length = 6 }
[[service.node]]
name = "n1"
id = 1
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
id = 2
address = ["10.0.0.12:15684", "[fd00::12]:15684"]
[[service.node]]
name = "n3"
id = 3
address = ["10.0.0.13", "fd00::13"]
[[service]]
name = "plain"
protocol = "udp"
listen = ["192.0.2.10:53", "[2001:db8::10]:53"]
[[service.node]]
name = "n1"
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
address = ["10.0.0.12:5353", "[fd00::12]:5353"]
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a frame; ``counted`` has the packets of each verdict that it was counted for."""

    action: int
    frame: bytes
    meta: bytes
    counted: Counter[Verdict]
    per_owner: Counter[tuple[str, str, Verdict]]

    @property
    def verdicts(self) -> set[Verdict]:
        return set(self.counted)


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        with inside(name):
            for family in ("ipv4", "ipv6"):
                write_sysctl(f"net.{family}.conf.all.forwarding", "1")
            for script in (LINKS, ADDRESSES):
                subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True)
            self.index = {name: if_nametoindex(name) for name in MACS}

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)


def inputs_of(
    text: str,
    states: Mapping[tuple[str, str], NodeState] | None = None,
    leaving: Iterable[tuple[str, str, int]] = (),
    before: PlaneInputs | None = None,
) -> PlaneInputs:
    """``leaving`` are nodes of ``before`` by service and name, with the seconds that they stay."""
    gateway = parse(text, "prog.toml").gateway
    labels = allocate(
        [node for service in gateway.services for node in service.nodes],
        before.labels if before is not None else Labels(),
        now=0,
        rest=3600,
    )
    gone = tuple(_leaving(before, *each) for each in leaving) if before is not None else ()
    return PlaneInputs(gateway, NodeStates(dict(states or {})), labels, gone)


def _leaving(before: PlaneInputs, service: str, name: str, seconds: int) -> Leaving:
    owner = next(each for each in before.gateway.services if each.name == service)
    node = next(each for each in owner.nodes if each.name == name)
    return Leaving(service, node, before.labels.of(node), seconds)


class Rig:
    """One loaded set of programs, configured anew for every test."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        roomy = sizes_for(compile_listeners(inputs_of(COAPS)).values(), 4096)
        more = {name: 8 * getattr(roomy, name) for name in ("nodes", "words", "hot", "counts", "replies")}
        filters = FilterSizes(16, 8, 256, PREFIXES, PEERS, 8)
        self.sizes = replace(roomy, translations=8192, blocks=256, own_buckets=64, filters=filters, **more)
        self.maps = MapSet.load(self.sizes, None)
        self.inputs = inputs_of(COAPS)
        self.layout = Layout(self.sizes)
        self.plane = XdpPlane("unused")

    def close(self) -> None:
        self.maps.close()

    @cached_property
    def compiled(self) -> Compiled:
        return compile_listeners(self.inputs)

    def configure(self, text: str = COAPS, states: Mapping[tuple[str, str], NodeState] | None = None) -> None:
        """Everything anew: no flow, no counter and no next hop is left of what was there before."""
        self._adopt(inputs_of(text, states))
        for view in self.maps.views.values():
            view[:] = bytes(len(view))
        for name in (*HASHES, *TRIES):
            for key in list(self.maps.maps[name].keys()):
                self.maps.maps[name].delete(key)
        self.layout = Layout(self.sizes)
        fill(self.maps, self.layout, self.compiled, None, self._guarding((), self.inputs))
        _settings(self.maps, self.sizes.shared_buckets, "first")
        set_counting(self.maps, wanted=are_wanted(self.compiled))
        self.maps.write_word(abi.Config.GENERATION, 1)
        self.ports()

    def ports(self, flags: abi.PortFlag = abi.PortFlag.NATIVE | NO_META) -> None:
        """Without metadata the programs never ask the kernel to confirm a neighbour, which would be now and then."""
        rows = [
            abi.Port(
                interface=index,
                lower=self.namespace.index["wan"] if name == "tagged" else index,
                vlan=VLAN if name == "tagged" else 0,
                mac=bytes.fromhex(MACS[name].replace(":", "")),
                flags=flags,
            )
            for name, index in self.namespace.index.items()
        ]
        multiplier, table = port_table(rows, self.maps.config.port_multiplier)
        self.maps.write_word(abi.Config.MULTIPLIER, multiplier)
        self.maps.write("ports", 0, table)
        key = self.namespace.index["wan"].to_bytes(4, "little") + VLAN.to_bytes(4, "little")
        self.maps.maps["vlans"].update(key, self.namespace.index["tagged"].to_bytes(4, "little"))

    def change(
        self,
        text: str = COAPS,
        states: Mapping[tuple[str, str], NodeState] | None = None,
        leaving: Iterable[tuple[str, str, int]] = (),
        stamp: str = "next",
    ) -> None:
        """Go from what stands to another configuration, in the way that the data plane does."""
        before, inputs = self.compiled, self.inputs
        self._adopt(inputs_of(text, states, leaving, self.inputs))
        guards = self._guarding(guard_entries(inputs.gateway), self.inputs)
        change(self.maps, self.layout, before, self.compiled, stamp, guards)

    def _guarding(self, have: tuple[GuardEntry, ...], want: PlaneInputs) -> Guarding:
        indexes = {name: (index,) for name, index in self.namespace.index.items()}
        return Guarding(have, guard_entries(want.gateway), indexes)

    def _adopt(self, inputs: PlaneInputs) -> None:
        self.inputs = inputs
        self.__dict__.pop("compiled", None)

    def totals(self) -> Counter[tuple[str, str, Verdict]]:
        self.plane._open = (Path(), self.maps, self.layout)
        counts = self.plane.counts(self.inputs)
        return Counter({(each.service, each.subject, each.verdict): each.packets for each in counts})

    def run(self, frame: bytes, on: str = "wan", program: str = MAIN) -> Ran:
        """Run the main program, or the guard's, on a frame that comes in by an interface."""
        before = self.totals()
        done = self.maps.programs[program].test_run(frame, ifindex=self.namespace.index[on])
        per_owner = self.totals() - before
        counted: Counter[Verdict] = Counter()
        for (_, _, verdict), packets in per_owner.items():
            counted[verdict] += packets
        return Ran(done.retval, done.data, done.meta, counted, per_owner)


def node_of(frame: bytes) -> str | None:
    """The node that a frame is addressed to, by its MAC."""
    mac = ":".join(f"{byte:02x}" for byte in frame[:6])
    return next((name for name, own in NODE_MACS.items() if own == mac), None)


@contextmanager
def rig() -> Iterator[Rig]:
    namespace = Namespace(f"pmprog-{os.getpid()}")
    try:
        with inside(namespace.name):
            made = Rig(namespace)
            try:
                yield made
            finally:
                made.close()
    finally:
        namespace.remove()
