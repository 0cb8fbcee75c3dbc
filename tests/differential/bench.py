"""Two gateways that differ in their data plane only, and the same frames through both.

Either is a network namespace with two interfaces whose other ends are packet sockets: nobody but the test sends
to it, and whatever it sends is seen to the byte.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from socket import htons

from tests.prog import sums
from tests.prog.rig import LAN_MAC, NODE_MACS, NODES, ROUTER_MAC, WAN_MAC

from pointsman.dataplane.nftables import NftablesPlane
from pointsman.dataplane.protocol import Count, DataPlane
from pointsman.dataplane.xdp import XdpPlane
from pointsman.kernel.nft import Nft
from pointsman.lab.inside import inside, write_sysctl
from pointsman.lab.offload import Offload, set_offload
from pointsman.plan.inputs import PlaneInputs

ALL = 3
SOL_PACKET, IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33
LATE = 1.0
"""How long an answer may take that the other gateway gave at once."""

SYSCTLS = {
    "net.ipv4.conf.all.forwarding": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv4.icmp_ratemask": "0",
    "net.ipv6.icmp.ratelimit": "0",
    "net.ipv6.icmp.ratemask": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}
INSIDE = f"""\
link set lo up
link set wan address {WAN_MAC} up
link set lan address {LAN_MAC} up
address add 192.0.2.1/24 dev wan
address add 192.0.2.10/32 dev wan
address add 2001:db8::1/64 dev wan nodad
address add 2001:db8::10/128 dev wan nodad
address add 10.0.0.1/24 dev lan
address add fd00::1/64 dev lan nodad
neighbour add 192.0.2.254 lladdr {ROUTER_MAC} dev wan nud permanent
neighbour add 2001:db8::fe lladdr {ROUTER_MAC} dev wan nud permanent
route add default via 192.0.2.254
route add default via 2001:db8::fe
""" + "".join(
    f"neighbour add {NODES[family][name]} lladdr {mac} dev lan nud permanent\n"
    for name, mac in NODE_MACS.items()
    for family in (4, 6)
)


@dataclass(slots=True)
class Gateway:
    """One gateway with its plane applied. ``inputs`` are what stands."""

    plane: DataPlane
    inputs: PlaneInputs
    ends: dict[str, socket.socket]
    name: str

    def change(self, want: PlaneInputs) -> None:
        with inside(self.name):
            self.plane.apply(self.inputs, want, "changed")
        self.inputs = want

    def send(self, on: str, frame: bytes) -> None:
        self.ends[on].send(frame)

    def taken(self) -> list[tuple[str, bytes]]:
        """What has come out since the last time, by interface; without the kernel's own chatter."""
        found = []
        for side, end in self.ends.items():
            while True:
                try:
                    frame = end.recv(65536)
                except BlockingIOError:
                    break
                if not is_chatter(frame):
                    found.append((side, frame))
        return found

    def counts(self) -> list[Count]:
        with inside(self.name):
            return self.plane.counts(self.inputs)


def is_chatter(frame: bytes) -> bool:
    """What the kernel says at times of its own: ARP, neighbour discovery, and that a host never answered those."""
    kind, packet = sums.behind_link(frame)
    if kind == 0x0806:
        return True
    found = sums.datagram(packet) if kind in (0x0800, 0x86DD) else None
    if found is None or len(found.rest) < 8:
        return False
    if found.version == 4:
        return found.protocol == sums.ICMP and found.rest[:2] == b"\3\1"
    return found.protocol == sums.ICMP6 and (130 <= found.rest[0] <= 143 or found.rest[:2] == b"\1\3")


def both(gateways: tuple[Gateway, Gateway], on: str, frame: bytes) -> list[list[tuple[str, bytes]]]:
    """Send a frame to both; what each made of it. The slower one is waited for."""
    for gateway in gateways:
        gateway.send(on, frame)
    made = [gateway.taken() for gateway in gateways]
    if len(made[0]) != len(made[1]):
        until = time.monotonic() + LATE
        while len(made[0]) != len(made[1]) and time.monotonic() < until:
            for gateway, own in zip(gateways, made, strict=True):
                own += gateway.taken()
    # Each interface's in their order; which of the two was read first says nothing, where a busy machine is late.
    return [sorted(own, key=lambda one: one[0]) for own in made]


@contextmanager
def pair(inputs: PlaneInputs) -> Iterator[tuple[Gateway, Gateway]]:
    """An nftables gateway and an XDP gateway of the same configuration."""
    with ExitStack() as stack:
        nft = stack.enter_context(_gateway("nft", inputs))
        xdp = stack.enter_context(_gateway("xdp", inputs))
        yield nft, xdp


@contextmanager
def _gateway(kind: str, inputs: PlaneInputs) -> Iterator[Gateway]:
    own, others = (f"pmdiff-{os.getpid()}-{kind}{end}" for end in ("", "-ends"))
    with ExitStack() as stack:
        for name in (own, others):
            _ip(f"netns add {name}\n")
            stack.callback(_ip, f"netns del {name}\n")
        for name in ("wan", "lan"):
            _ip(f"link add {name} netns {own} type veth peer name {name} netns {others}\n")
        ends = {}
        with inside(others):
            for name in ("wan", "lan"):
                write_sysctl(f"net.ipv6.conf.{name}.disable_ipv6", "1")
                _ip(f"link set {name} up\n")
                # What XDP redirects to a veth is taken by its other end only where that has NAPI, as with GRO.
                set_offload(name, Offload.GRO, on=True)
                ends[name] = stack.enter_context(_end(name))
        with inside(own):
            for key, value in SYSCTLS.items():
                write_sysctl(key, value)
            for name in ("wan", "lan"):
                # What the kernel says itself, as a RST, has its checksum then.
                set_offload(name, Offload.TX_CHECKSUM, on=False)
            _ip(INSIDE)
            plane: DataPlane
            if kind == "nft":
                plane = NftablesPlane(stack.enter_context(Nft()))
            else:
                plane = xdp = XdpPlane(own)
                stack.callback(xdp.close)
            plane.apply(None, inputs, "differential")
            stack.callback(_remove, plane, own)
        yield Gateway(plane, inputs, ends, own)


def _remove(plane: DataPlane, name: str) -> None:
    with inside(name):
        plane.remove()


def _end(name: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, htons(ALL))
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    end.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    end.bind((name, ALL))
    end.setblocking(False)
    return end


def _ip(script: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=True)
