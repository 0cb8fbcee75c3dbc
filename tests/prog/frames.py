"""Frames by the thousand from a seed: plain, odd and hostile ones, built without scapy, which would take too long."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from tests.prog import sums
from tests.prog.rig import LAN_MAC, NODE_MACS, NODES, ROUTER_MAC, VIP, WAN_MAC

ETHER = {4: 0x0800, 6: 0x86DD}
IDS = (0, 1, 2, 3, 7, 255)
CLIENT_NETS = {4: "198.51.100.0", 6: "2001:db8:c::"}
OTHER_NETS = {4: "203.0.113.0", 6: "2001:db8:5afe::"}
"""Where nodes send to of their own accord. No client sends from there, so nobody answers what a node said first."""
LISTENERS = (5684, 5684, 5684, 53)
NODE_PORTS = {
    "n1": {5684: 5684, 53: 53},
    "n2": {5684: 15684, 53: 5353},
    "n3": {5684: 5684, 53: 53},
}


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(text: str) -> bytes:
    return ip_address(text).packed


def near(net: str, offset: int) -> bytes:
    base = packed(net)
    return (int.from_bytes(base, "big") + offset).to_bytes(len(base), "big")


def checksum(*parts: bytes) -> bytes:
    return (0xFFFF - sums.total(*parts)).to_bytes(2, "big")


def udp(source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    size = 8 + len(payload)
    head = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + size.to_bytes(2, "big")
    pseudo = source + destination + (17).to_bytes(4, "big") + size.to_bytes(4, "big")
    return head + checksum(pseudo, head, payload) + payload


def tcp(source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes, flags: int) -> bytes:
    size = 20 + len(payload)
    head = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + bytes(8) + bytes((0x50, flags, 1, 0))
    pseudo = source + destination + (6).to_bytes(4, "big") + size.to_bytes(4, "big")
    return head + checksum(pseudo, head, bytes(2), payload) + bytes(2) + payload


def ipv4(
    source: bytes,
    destination: bytes,
    rest: bytes,
    *,
    protocol: int = 17,
    ttl: int = 64,
    options: bytes = b"",
    part: int = 0,
    ident: int = 1,
    tos: int = 0,
) -> bytes:
    options += bytes(-len(options) % 4)
    size = 20 + len(options)
    head = (
        bytes((0x40 | size // 4, tos))
        + (size + len(rest)).to_bytes(2, "big")
        + ident.to_bytes(2, "big")
        + part.to_bytes(2, "big")
        + bytes((ttl, protocol))
    )
    tail = source + destination + options
    return head + checksum(head, tail) + tail + rest


def ipv6(
    source: bytes, destination: bytes, rest: bytes, *, protocol: int = 17, hops: int = 64, label: int = 0
) -> bytes:
    start = (6 << 28 | label).to_bytes(4, "big")
    return start + len(rest).to_bytes(2, "big") + bytes((protocol, hops)) + source + destination + rest


def icmp_error(
    source: bytes, destination: bytes, kind: int, code: int, quoted: bytes, rest: int = 0
) -> bytes:
    """An ICMP or ICMPv6 message with its checksum, without IP header."""
    head, tail = bytes((kind, code)), rest.to_bytes(4, "big") + quoted
    pseudo = b""
    if len(source) == 16:
        pseudo = source + destination + (4 + len(tail)).to_bytes(4, "big") + (58).to_bytes(4, "big")
    return head + checksum(pseudo, head, tail) + tail


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame and the interface that it comes in by."""

    on: str
    frame: bytes


class Frames:
    """Frames of one family; the same seed gives the same ones."""

    def __init__(self, seed: int, family: int) -> None:
        self.random = Random(f"{seed} {family}")
        self.family = family

    def next(self) -> Sent:
        sent = self.build()
        if self.random.random() < 0.4:
            sent = Sent(sent.on, self.mutated(sent.frame))
        return sent

    def build(self) -> Sent:
        draw = self.random.random()
        if draw < 0.7:
            return self._of_client()
        if draw < 0.9:
            return self._of_node()
        if draw < 0.95:
            return self._of_node_to_vip()
        return self._error()

    # kinds

    def _of_client(self) -> Sent:
        rng = self.random
        source = near(CLIENT_NETS[self.family], rng.randrange(1, 200))
        ports = 1024 + rng.randrange(200), rng.choice(LISTENERS)
        packet = self._packet(source, packed(VIP[self.family]), ports, self.payload())
        return Sent("wan", self._link(WAN_MAC, ROUTER_MAC, packet))

    def _of_node(self) -> Sent:
        rng = self.random
        name = rng.choice(list(NODE_MACS))
        destination = near(OTHER_NETS[self.family], rng.randrange(1, 200))
        port = NODE_PORTS[name][rng.choice(LISTENERS)]
        source = packed(NODES[self.family][name])
        packet = self._packet(source, destination, (port, 1024 + rng.randrange(200)), self.payload())
        return Sent("lan", self._link(LAN_MAC, NODE_MACS[name], packet))

    def _of_node_to_vip(self) -> Sent:
        rng = self.random
        name = rng.choice(list(NODE_MACS))
        ports = 40000 + rng.randrange(50), rng.choice(LISTENERS)
        source = packed(NODES[self.family][name])
        packet = self._packet(source, packed(VIP[self.family]), ports, self.payload())
        return Sent("lan", self._link(LAN_MAC, NODE_MACS[name], packet))

    def _error(self) -> Sent:
        """An ICMP error about what a node was sent, from the nodes' side, or about an answer, from the clients'."""
        rng = self.random
        name = rng.choice(list(NODE_MACS))
        port = rng.choice(LISTENERS)
        client = near(CLIENT_NETS[self.family], rng.randrange(1, 200)), 1024 + rng.randrange(200)
        node = packed(NODES[self.family][name]), NODE_PORTS[name][port]
        vip = packed(VIP[self.family]), port
        from_node = rng.random() < 0.5
        first, last = (client, node) if from_node else (vip, client)
        size = rng.choice((28, 32, 40, 60, 200))
        quoted = self._packet(first[0], last[0], (first[1], last[1]), self.payload())[:size]
        router = near(OTHER_NETS[self.family], 250) if not from_node else node[0]
        kinds = {4: ((3, 3), (3, 4), (11, 0), (12, 0)), 6: ((1, 4), (2, 0), (3, 0), (4, 1))}
        message = icmp_error(router, first[0], *rng.choice(kinds[self.family]), quoted, rng.choice((0, 1400)))
        packet = self._network(router, first[0], message, 1 if self.family == 4 else 58)
        if from_node:
            return Sent("lan", self._link(LAN_MAC, NODE_MACS[name], packet))
        return Sent("wan", self._link(WAN_MAC, ROUTER_MAC, packet))

    # parts

    def payload(self) -> bytes:
        rng = self.random
        kind = rng.randrange(8)
        if kind < 3:
            cid = bytes((rng.choice(IDS),)) + rng.randbytes(5)
            return b"\x19\xfe\xfd" + rng.randbytes(8) + cid + b"\0\x04" + rng.randbytes(4)
        if kind == 3:
            return (b"\x19\xfe\xfd" + rng.randbytes(20))[: rng.randrange(24)]
        if kind == 4:
            epoch = rng.choice((b"\0\0", b"\0\1"))
            message = bytes((rng.choice((1, 2, 3, 16)), 0, 0, 9, 0, rng.randrange(3)))
            return b"\x16\xfe\xfd" + epoch + rng.randbytes(6) + b"\0\x15" + message + rng.randbytes(15)
        if kind == 5:
            return b"\x17\xfe\xfd\0\1" + rng.randbytes(rng.randrange(40))
        return rng.randbytes(rng.choice((0, 1, 3, 11, 12, 64, 1300)))

    def _packet(self, source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
        rng = self.random
        if rng.random() < 0.03:
            segment = tcp(source, destination, ports, payload, rng.choice((2, 16, 17, 4)))
            return self._network(source, destination, segment, 6)
        datagram = bytearray(udp(source, destination, ports, payload))
        if rng.random() < 0.1:
            datagram[6:8] = b"\0\0"
        return self._network(source, destination, bytes(datagram), 17)

    def _network(self, source: bytes, destination: bytes, rest: bytes, protocol: int) -> bytes:
        rng = self.random
        limit = rng.choice((64, 64, 64, 255, 2, 1, 0)) if rng.random() < 0.3 else 64
        if self.family == 4:
            options = self._options() if rng.random() < 0.05 else b""
            part = rng.choice((0, 0x4000)) if rng.random() < 0.97 else rng.choice((0x2000, 0x2005, 0x0005))
            return ipv4(
                source,
                destination,
                rest,
                protocol=protocol,
                ttl=limit,
                options=options,
                part=part,
                ident=rng.randrange(65536),
                tos=rng.choice((0, 0xB8, 3)),
            )
        for _ in range(rng.choice((1, 2)) if rng.random() < 0.06 else 0):
            rest, protocol = self._extension(rest, protocol)
        return ipv6(source, destination, rest, protocol=protocol, hops=limit, label=rng.choice((0, 0xABCDE)))

    def _options(self) -> bytes:
        return self.random.choice(
            (
                b"\1\1\1\0",
                b"\1" * 8,
                b"\7\7\4\0\0\0\0",
                b"\x94\4\0\0",
                b"\x83\7\4\1\2\3\4",
                b"\x44\x08\5\0\0\0\0\0",
                b"\x9f\0",
            )
        )

    def _extension(self, rest: bytes, protocol: int) -> tuple[bytes, int]:
        rng = self.random
        kind = rng.choice((0, 43, 44, 60, 60))
        if kind == 44:
            offset = rng.choice((0, 0, 1, 8, 9))
            return bytes((protocol, 0, 0, offset)) + rng.randbytes(4) + rest, kind
        if kind == 43:
            return bytes((protocol, 0, 4, rng.choice((0, 0, 1)))) + bytes(4) + rest, kind
        more = rng.choice((0, 0, 1))
        option = rng.choice((1, 1, 1, 0x1E, 0x9E))
        return bytes((protocol, more, option, 4 + 8 * more)) + bytes(4 + 8 * more) + rest, kind

    def _link(self, destination: str, source: str, packet: bytes) -> bytes:
        rng = self.random
        to = mac(destination)
        draw = rng.random()
        tag = b""
        if draw < 0.02:
            to = rng.choice((b"\xff" * 6, mac("02:00:00:00:09:09"), b"\1\0\x5e\0\0\1"))
        elif draw < 0.04:
            tag = rng.choice((b"\x81\0\0\x07", b"\x88\xa8\0\x07", b"\x81\0\0\x07\x81\0\0\x08"))
        trailer = rng.randbytes(rng.choice((1, 2, 18))) if rng.random() < 0.1 else b""
        frame = to + mac(source) + tag + ETHER[self.family].to_bytes(2, "big") + packet + trailer
        return frame if len(frame) >= 60 else frame + rng.choice((b"", bytes(60 - len(frame))))

    # harm

    def mutated(self, frame: bytes) -> bytes:
        rng = self.random
        kind = rng.randrange(6)
        if kind == 0:
            return frame[: rng.randrange(14, len(frame) + 1)]
        if kind == 1:
            return frame + rng.randbytes(rng.randrange(1, 64))
        changed = bytearray(frame)
        reach = min(len(frame), rng.choice((34, 54, 80, 2000)))
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(12, reach)
            changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), 0, 255, rng.randrange(256)))
        if kind != 2:
            mend(changed)
        return bytes(changed)


def mend(frame: bytearray) -> None:
    """Make the IPv4 header's checksum right again, so that a mutation gets further."""
    kind, packet = sums.behind_link(bytes(frame))
    if kind != 0x0800 or len(packet) < 20:
        return
    start, size = len(frame) - len(packet), (packet[0] & 15) * 4
    if size < 20 or len(packet) < size:
        return
    frame[start + 10 : start + 12] = b"\0\0"
    frame[start + 10 : start + 12] = checksum(bytes(frame[start : start + size]))
