"""Hostile frames at a full-nat service beside one that goes by connection ID: python -m tests.prog.roles."""

from __future__ import annotations

import os
import sys
import time

from tests.prog import sums
from tests.prog.frames import NODE_PORTS, Frames, Sent, icmp_error, near, packed
from tests.prog.mutate import NODE_ADDRESSES, VIPS, Model, judged, run
from tests.prog.rig import COAPS, LAN_MAC, NODE_MACS, NODES, REDIRECT, WAN_MAC, rig
from tests.prog.sums import Datagram

LOW, HIGH = 30000, 30127
SOURCES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
EVERY_SOURCE = {packed(each) for own in SOURCES.values() for each in own}
PLAIN = 'listen = ["192.0.2.10:53", "[2001:db8::10]:53"]\n'
FULL_NAT = COAPS.replace(
    PLAIN,
    PLAIN
    + 'forward = "full-nat"\n'
    + f"source = {[each for own in SOURCES.values() for each in own]}\n".replace("'", '"')
    + f'source_ports = "{LOW}-{HIGH}"\n'
    + 'affinity = { ip4 = 32, ip6 = 128, timeout = "1s" }\nflow_timeout = "1s"\n',
)
"""Timeouts so short that ports are handed out again and again; affinity by address alone."""


class FullNatFrames(Frames):
    """Nodes send to the source addresses as well, and errors quote them."""

    def _of_node(self) -> Sent:
        rng = self.random
        if rng.random() < 0.3:
            return super()._of_node()
        name = rng.choice(list(NODE_MACS))
        source, to = packed(NODES[self.family][name]), packed(rng.choice(SOURCES[self.family]))
        ports = NODE_PORTS[name][53], rng.randrange(LOW - 3, HIGH + 3)
        packet = self._packet(source, to, ports, self.payload())
        return Sent("lan", self._link(LAN_MAC, NODE_MACS[name], packet))

    def _error(self) -> Sent:
        rng = self.random
        if rng.random() < 0.5:
            return super()._error()
        name = rng.choice(list(NODE_MACS))
        node, source = packed(NODES[self.family][name]), packed(rng.choice(SOURCES[self.family]))
        ports = rng.randrange(LOW - 3, HIGH + 3), NODE_PORTS[name][53]
        quoted = self._packet(source, node, ports, self.payload())[: rng.choice((28, 36, 48, 60, 200))]
        kinds = {4: ((3, 3), (3, 4), (11, 0)), 6: ((1, 4), (2, 0), (3, 0))}
        sender = node if rng.random() < 0.8 else near("10.0.0.0" if self.family == 4 else "fd00::", 99)
        message = icmp_error(sender, source, *rng.choice(kinds[self.family]), quoted, rng.choice((0, 1400)))
        packet = self._network(sender, source, message, 1 if self.family == 4 else 58)
        return Sent("lan", self._link(LAN_MAC, NODE_MACS[name], packet))


class FullNatModel(Model):
    """Nodes of the full-nat service are the scheduler's or affinity's: any will do."""

    def node(self, packet: Datagram) -> str | None:
        if packet.ports[1] == 53:
            return "any"
        return super().node(packet)


def judged_full_nat(model: Model, sent: Sent, action: int, made: bytes) -> str | None:
    """The promise that was broken, None for none: what the others are held to, and the sources' own."""
    broken = judged(model, sent, action, made)
    if broken is not None and not broken.endswith("instead of any"):
        return broken
    if action != REDIRECT:
        return None
    before = sums.datagram(sums.behind_link(sent.frame)[1])
    after = sums.datagram(sums.behind_link(made)[1])
    if before is None or after is None or not before.whole or before.protocol not in (sums.UDP, sums.TCP):
        return None
    if made[6:12] == bytes.fromhex(WAN_MAC.replace(":", "")):
        return "a source address was sent out" if after.source in EVERY_SOURCE else None
    if before.destination in VIPS and before.ports[1] == 53 and before.protocol == sums.UDP:
        ours = after.source in EVERY_SOURCE and LOW <= after.ports[0] <= HIGH
        return None if ours else "a client's address was shown to a node"
    if after.destination in NODE_ADDRESSES and after.source in EVERY_SOURCE:
        return "left from a source without need"
    return None


ROLE = FullNatFrames, FullNatModel, judged_full_nat


def main() -> int:
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", "60")), int(time.time())
    with rig() as gateway:
        gateway.configure(FULL_NAT)
        tried, actions, broken = run(gateway, seconds, seed, ROLE)
    print(f"full-nat: {tried:,} frames in {seconds:g} s with seed {seed}; actions {dict(actions)}")
    for each in broken:
        print(each)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
