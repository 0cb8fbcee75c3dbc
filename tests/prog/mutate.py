"""Hostile frames, as many as there is time for: python -m tests.prog.mutate (FUZZ_SECONDS, 60 by default).

No frame may make a program abort, no right checksum may become a wrong one, and nothing may reach a node that the
model would not choose.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from tests.prog import sums
from tests.prog.frames import ETHER, Frames, Sent, mac, packed
from tests.prog.rig import ABORTED, LAN_MAC, NODES, REDIRECT, VIP, WAN_MAC, Rig, node_of, rig
from tests.prog.sums import Datagram

from pointsman.dataplane.xdp_maps import MAIN
from pointsman.kernel.bpf import _TestRunOpts, _XdpMd
from pointsman.kernel.bpf_library import check, library
from pointsman.plan import jhash, maglev
from pointsman.plan.members import members, size_of

ROOM = 4096
SEND = 40
"""How often each frame is changed once more, from the last change on, before a new one is built."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that a frame broke."""

    promise: str
    sent: Sent
    made: bytes

    def __str__(self) -> str:
        return f"{self.promise}: by {self.sent.on}: {self.sent.frame.hex()} became {self.made.hex()}"


class Runner:
    """BPF_PROG_TEST_RUN with buffers that are made once."""

    def __init__(self, gateway: Rig) -> None:
        self._fd = gateway.maps.programs[MAIN].fd
        self._index = gateway.namespace.index
        self._input, self._output = ctypes.create_string_buffer(ROOM), ctypes.create_string_buffer(2 * ROOM)
        self._context = _XdpMd()
        self._opts = _TestRunOpts(
            sz=ctypes.sizeof(_TestRunOpts),
            data_in=ctypes.addressof(self._input),
            data_out=ctypes.addressof(self._output),
            repeat=1,
            ctx_in=ctypes.addressof(self._context),
            ctx_out=ctypes.addressof(self._context),
            ctx_size_in=ctypes.sizeof(_XdpMd),
        )

    def __call__(self, sent: Sent) -> tuple[int, bytes]:
        frame, opts, context = sent.frame, self._opts, self._context
        ctypes.memmove(self._input, frame, len(frame))
        context.data, context.data_end, context.data_meta = 0, len(frame), 0
        context.ingress_ifindex = self._index[sent.on]
        opts.data_size_in, opts.data_size_out = len(frame), 2 * ROOM
        opts.ctx_size_out = ctypes.sizeof(_XdpMd)
        check(library().bpf_prog_test_run_opts(self._fd, ctypes.byref(opts)), "cannot run the program")
        return opts.retval, self._output.raw[context.data : opts.data_size_out]


class Model:
    """Which node a datagram may go to, by what the configuration says: nothing of it is read from the maps."""

    def __init__(self, gateway: Rig) -> None:
        self._gateway = gateway.inputs.gateway
        self._states = gateway.inputs.states

    @cached_property
    def _tables(self) -> dict[int, tuple[list[str], int]]:
        """Slots by listener port: the name of each slot's node, and how many there are."""
        found = {}
        for service, port in zip(self._gateway.services, (5684, 53), strict=True):
            takers, size = members(service, self._states.of_all(service)), size_of(service)
            table = maglev.build(takers, size, self._gateway.hash_seed)
            found[port] = [takers[each][0] for each in table], size
        return found

    def node(self, packet: Datagram) -> str | None:
        """The node of a client's datagram to the VIP; None where it is to go to none."""
        client, port = packet.ports
        payload = packet.rest[8:]
        if port == 5684 and payload[:3] == b"\x19\xfe\xfd":
            return {1: "n1", 2: "n2", 3: "n3"}.get(payload[11]) if len(payload) > 11 else None
        if port not in self._tables:
            return None
        names, size = self._tables[port]
        kind = IPv4Address if packet.version == 4 else IPv6Address
        return names[jhash.client_slot(kind(packet.source), client, size, self._gateway.hash_seed)]


VIPS = {packed(address) for address in VIP.values()}
NODE_ADDRESSES = {packed(address) for own in NODES.values() for address in own.values()}


def judged(model: Model, sent: Sent, action: int, made: bytes) -> str | None:
    """The promise that was broken, None for none."""
    if action == ABORTED or action > REDIRECT:
        return f"action {action}"
    if made == sent.frame:
        return None
    kind, packet = sums.behind_link(sent.frame)
    before = sums.datagram(packet) if kind in ETHER.values() else None
    if before is None:
        return "changed what is no IP packet"
    if action not in (1, 2) and not sums.wrong(sent.frame):
        bad = sums.wrong(made)
        if bad:
            return f"wrong checksums: {sorted(bad)}"
    if sent.frame[:6] not in (mac(WAN_MAC), mac(LAN_MAC)):
        return "took a frame for another"
    if action != REDIRECT:
        return None
    after = sums.datagram(sums.behind_link(made)[1])
    if after is None:
        return "sent what is no IP packet"
    return _sent(model, before, after, made)


def _sent(model: Model, before: Datagram, after: Datagram, made: bytes) -> str | None:
    if after.hop_limit != before.hop_limit - 1:
        return "hop limit"
    if made[6:12] == mac(WAN_MAC):
        return "a node's address was sent out" if after.source in NODE_ADDRESSES else None
    name = node_of(made)
    if name is None:
        return None
    if before.protocol != sums.UDP or before.offset or not before.whole:
        return None
    if before.destination not in VIPS:
        return "sent to a node what was not for the VIP"
    wanted = model.node(before)
    return f"sent to {name} instead of {wanted}" if name != wanted else None


Judge = Callable[[Model, Sent, int, bytes], str | None]


def run(
    gateway: Rig,
    seconds: float,
    seed: int,
    kinds: tuple[type[Frames], type[Model], Judge] = (Frames, Model, judged),
) -> tuple[int, Counter[int], list[Broken]]:
    """Frames tried, what became of them, and the first ones that broke each promise."""
    runner, model = Runner(gateway), kinds[1](gateway)
    streams = [kinds[0](seed, family) for family in (4, 6)]
    until, tried, actions = time.monotonic() + seconds, 0, Counter[int]()
    broken: dict[str, Broken] = {}
    while time.monotonic() < until:
        for frames in streams:
            sent = frames.build()
            for _ in range(SEND):
                action, made = runner(sent)
                tried += 1
                actions[action] += 1
                if (promise := kinds[2](model, sent, action, made)) is not None:
                    broken.setdefault(promise, Broken(promise, sent, made))
                sent = Sent(sent.on, frames.mutated(sent.frame))
                if not 14 <= len(sent.frame) < 2000:
                    break
    return tried, actions, list(broken.values())


def main() -> int:
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", "60")), int(time.time())
    with rig() as gateway:
        gateway.configure()
        tried, actions, broken = run(gateway, seconds, seed)
    print(f"{tried:,} frames in {seconds:g} s with seed {seed}; actions {dict(actions)}")
    for each in broken:
        print(each)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
