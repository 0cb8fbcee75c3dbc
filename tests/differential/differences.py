"""What the two planes do differently on purpose: the whole list, each with the frames that it is about.

Such frames are not sent at all, as one packet more or less would change what is remembered and counted. What the
XDP plane makes of them is in tests/prog. Whatever else the planes did differently would be a bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.prog import sums
from tests.prog.frames import ETHER, mac, packed
from tests.prog.rig import LAN_MAC, VIP, WAN_MAC
from tests.prog.sums import Datagram

ROUTING = 43


@dataclass(frozen=True, slots=True)
class Difference:
    name: str
    because: str
    about: Callable[[bytes, Datagram], bool]


def is_fragment(_: bytes, packet: Datagram) -> bool:
    if packet.version == 4:
        return bool(int.from_bytes(packet.header[6:8], "big") & 0x3FFF)
    return sums.FRAGMENT in extensions(packet)


def is_spent(_: bytes, packet: Datagram) -> bool:
    return packet.hop_limit <= 1


def is_error(_: bytes, packet: Datagram) -> bool:
    return (packet.version, packet.protocol) in ((4, sums.ICMP), (6, sums.ICMP6))


def has_options(_: bytes, packet: Datagram) -> bool:
    """Other IPv4 options than no-operation and end-of-list."""
    options = packet.header[20:] if packet.version == 4 else b""
    return any(options.lstrip(b"\1"))


def has_acted_on_extensions(_: bytes, packet: Datagram) -> bool:
    """A routing header, or a hop-by-hop header, which every Linux router reads; both are rare, and slow anyway."""
    return packet.version == 6 and bool({0, ROUTING} & {packet.header[6], *extensions(packet)})


def is_authenticated(_: bytes, packet: Datagram) -> bool:
    return packet.version == 6 and 51 in (packet.protocol, *extensions(packet))


def is_from_the_gateway(_: bytes, packet: Datagram) -> bool:
    own = ("192.0.2.1", "10.0.0.1", VIP[4], "2001:db8::1", "fd00::1", VIP[6])
    return packet.source in {packed(address) for address in own}


def is_martian(_: bytes, packet: Datagram) -> bool:
    if packet.version == 4:
        return packet.source[0] in (0, 127) or packet.source[0] >= 224
    return packet.source[0] == 0xFF or not any(packet.source[:15])


def is_to_nobody(_: bytes, packet: Datagram) -> bool:
    """To a multicast, broadcast, loopback or unspecified address."""
    if packet.version == 4:
        return packet.destination[0] in (0, 127) or packet.destination[0] >= 224
    return packet.destination[0] == 0xFF or not any(packet.destination[:15])


def is_for_another_mac(frame: bytes, _: Datagram) -> bool:
    return frame[:6] not in (mac(WAN_MAC), mac(LAN_MAC))


def is_cut(_: bytes, packet: Datagram) -> bool:
    return packet.protocol == sums.UDP and len(packet.rest) < 8


def extensions(packet: Datagram) -> list[int]:
    """The protocol numbers that are met on the way, the last left out."""
    found, at, protocol = [], 40, packet.header[6] if packet.version == 6 else 59
    while at < len(packet.header):
        found.append(protocol)
        size = 8 if protocol == sums.FRAGMENT else 8 * (packet.header[at + 1] + 1)
        protocol, at = packet.header[at], at + size
    return found


DIFFERENCES = (
    Difference(
        "fragments", "nftables has them reassembled; XDP has later ones follow the first", is_fragment
    ),
    Difference(
        "hop limit",
        "XDP answers as from the listener; nftables suppresses or leaves it to the kernel",
        is_spent,
    ),
    Difference("ICMP errors", "XDP translates them; nftables drops those that quote a node", is_error),
    Difference(
        "IPv4 options", "the kernel fills in, or refuses, options that XDP carries as they are", has_options
    ),
    Difference(
        "IPv6 extensions", "the kernel judges options and routing headers of its own", has_acted_on_extensions
    ),
    Difference(
        "authentication", "nftables looks behind AH, which no rewritten packet survives", is_authenticated
    ),
    Difference(
        "own addresses", "the kernel drops what claims to be from the gateway itself", is_from_the_gateway
    ),
    Difference("martians", "the kernel drops them behind nftables' look-up and counters", is_martian),
    Difference("to nobody", "likewise, a node's to a multicast address and the like", is_to_nobody),
    Difference("other MACs", "likewise, broadcast and multicast frames", is_for_another_mac),
    Difference("cut headers", "XDP wants all eight bytes of a UDP header, nftables the ports", is_cut),
)


def difference(frame: bytes) -> str | None:
    """The first difference that a frame is about; None: both planes are to make the same of it."""
    kind, packet = sums.behind_link(frame)
    found = sums.datagram(packet) if kind in ETHER.values() else None
    if found is None:
        return None
    return next((each.name for each in DIFFERENCES if each.about(frame, found)), None)
