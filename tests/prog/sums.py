"""Which checksums of a frame are wrong, told without the code under test."""

from __future__ import annotations

from dataclasses import dataclass

UDP, TCP, ICMP, ICMP6, FRAGMENT = 17, 6, 1, 58, 44
EXTENSIONS = {0, 43, 60, FRAGMENT}
TAGS = {0x8100, 0x88A8}


def total(*parts: bytes) -> int:
    """The one's complement sum, 0 where a right checksum is among the parts; each is filled up to whole words."""
    return sum(int.from_bytes(part + bytes(len(part) % 2), "big") for part in parts) % 0xFFFF


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IP packet taken apart; ``rest`` is cut to what the IP header says there is."""

    version: int
    header: bytes
    source: bytes
    destination: bytes
    protocol: int
    hop_limit: int
    rest: bytes
    whole: bool
    """False for a later fragment, a first one, or where the packet is shorter than it says."""
    offset: int

    @property
    def ports(self) -> tuple[int, int]:
        return int.from_bytes(self.rest[0:2], "big"), int.from_bytes(self.rest[2:4], "big")


def behind_link(frame: bytes) -> tuple[int, bytes]:
    """EtherType and what follows, behind VLAN tags."""
    at = 12
    kind = int.from_bytes(frame[at : at + 2], "big")
    while kind in TAGS:
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    return kind, frame[at + 2 :]


def datagram(packet: bytes) -> Datagram | None:
    if len(packet) < 20:
        return None
    return _ipv4(packet) if packet[0] >> 4 == 4 else _ipv6(packet) if packet[0] >> 4 == 6 else None


def _ipv4(packet: bytes) -> Datagram | None:
    size, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if size < 20 or length < size or len(packet) < size:
        return None
    part = int.from_bytes(packet[6:8], "big")
    return Datagram(
        4,
        packet[:size],
        packet[12:16],
        packet[16:20],
        packet[9],
        packet[8],
        packet[size:length],
        len(packet) >= length and not part & 0x3FFF,
        (part & 0x1FFF) * 8,
    )


def _ipv6(packet: bytes) -> Datagram | None:
    if len(packet) < 40:
        return None
    length = 40 + int.from_bytes(packet[4:6], "big")
    end, at, protocol, whole, offset = min(length, len(packet)), 40, packet[6], len(packet) >= length, 0
    while protocol in EXTENSIONS and at + 8 <= end and not offset:
        if protocol == FRAGMENT:
            part = int.from_bytes(packet[at + 2 : at + 4], "big")
            whole, offset, size = whole and not part & 0xFFF9, part & 0xFFF8, 8
        else:
            size = 8 * (packet[at + 1] + 1)
        protocol, at = packet[at], at + size
    if at > end:
        return None
    return Datagram(
        6, packet[:at], packet[8:24], packet[24:40], protocol, packet[7], packet[at:end], whole, offset
    )


def wrong(frame: bytes) -> set[str]:
    """Names of the checksums that are wrong, those in the packet that an ICMP error quotes among them."""
    kind, packet = behind_link(frame)
    found = datagram(packet) if kind in (0x0800, 0x86DD) else None
    return _wrong(found) if found is not None else set()


def _wrong(packet: Datagram, place: str = "") -> set[str]:
    bad = set()
    if packet.version == 4 and total(packet.header):
        bad.add(f"{place}ip")
    if not packet.whole:
        return bad
    rest = packet.rest
    pseudo = (
        packet.source + packet.destination + len(rest).to_bytes(4, "big") + packet.protocol.to_bytes(4, "big")
    )
    if packet.protocol == UDP and len(rest) >= 8:
        # The length in the UDP header goes into the pseudo-header (RFC 768); without that length it means nothing.
        if int.from_bytes(rest[4:6], "big") == len(rest) and rest[6:8] != b"\0\0" and total(pseudo, rest):
            bad.add(f"{place}udp")
    elif packet.protocol == TCP and len(rest) >= 20 and total(pseudo, rest):
        bad.add(f"{place}tcp")
    elif packet.protocol == ICMP and packet.version == 4 and len(rest) >= 8:
        if total(rest):
            bad.add(f"{place}icmp")
        bad |= _quoted(rest, rest[0] in (3, 11, 12))
    elif packet.protocol == ICMP6 and packet.version == 6 and len(rest) >= 8:
        if total(pseudo, rest):
            bad.add(f"{place}icmp6")
        bad |= _quoted(rest, rest[0] in (1, 2, 3, 4))
    return bad


def _quoted(rest: bytes, error: bool) -> set[str]:
    inner = datagram(rest[8:]) if error else None
    return _wrong(inner, "quoted ") if inner is not None else set()
