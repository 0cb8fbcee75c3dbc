"""ICMP errors as cases make them, and as they read them: every checksum in them is looked at."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from tests.conformance.evidence import is_icmp, showing_a_node
from tests.conformance.site import QUIET, Site

from pointsman.lab.capture import Capture, Frame
from pointsman.wire.checksum import internet_checksum, pseudo_header

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62

UNREACHABLE = {4: 3, 6: 1}
TIME_EXCEEDED = {4: 11, 6: 3}
TOO_BIG = {4: 3, 6: 2}
PORT = {4: 3, 6: 4}
"""The code that says port unreachable."""

ICMPV6 = 58


@dataclass(frozen=True)
class IcmpError:
    """An ICMP error with right checksums, and what it quotes: where that came from and went, and its bytes."""

    kind: int
    code: int
    mtu: int
    source: str
    destination: str
    hop_limit: int
    quote: bytes
    quoted_source: tuple[str, int]
    quoted_destination: tuple[str, int]


def read_error(frame: Frame) -> IcmpError:
    packet, family = frame.packet, 4 if frame.ethertype == 0x0800 else 6
    header = 4 * (packet[0] & 15) if family == 4 else 40
    source, destination = ends(packet)
    message = packet[header:]
    covered = message
    if family == 4:
        assert internet_checksum(packet[:header]) == 0, "checksum of the IP header"
    else:
        covered = pseudo_header(ip_address(source), ip_address(destination), ICMPV6, len(message)) + message
    assert internet_checksum(covered) == 0, "checksum of the ICMP message"
    kind, code, _, _, mtu = struct.unpack("!BBHHH", message[:8])
    quote = message[8:]
    if family == 6:
        mtu = int.from_bytes(message[4:8], "big")
    quoted, ports = ends(quote), _ports(quote)
    return IcmpError(
        kind,
        code,
        mtu,
        source,
        destination,
        packet[8 if family == 4 else 7],
        quote,
        (quoted[0], ports[0]),
        (quoted[1], ports[1]),
    )


def ends(packet: bytes) -> tuple[str, str]:
    at, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    return str(ip_address(packet[at : at + size])), str(ip_address(packet[at + size : at + 2 * size]))


def _ports(quote: bytes) -> tuple[int, int]:
    """The ports of a quoted UDP datagram, whose checksums are right where they can be told."""
    if quote[0] >> 4 == 4:
        header, whole = 4 * (quote[0] & 15), int.from_bytes(quote[2:4], "big")
        assert internet_checksum(quote[:header]) == 0, "checksum of the quoted IP header"
    else:
        header, following, whole = 40, quote[6], 40 + int.from_bytes(quote[4:6], "big")
        while following in (0, 43, 44, 60):
            size = 8 if following == 44 else 8 * (quote[header + 1] + 1)
            following, header = quote[header], header + size
    segment = quote[header:whole]
    if len(quote) >= whole and int.from_bytes(segment[6:8], "big"):
        one, other = (ip_address(each) for each in ends(quote))
        covered = pseudo_header(one, other, 17, len(segment)) + segment
        assert internet_checksum(covered) == 0, "checksum of the quoted datagram"
    source, destination = struct.unpack("!HH", segment[:4])
    return source, destination


def errors(capture: Capture, *kinds: int) -> list[IcmpError]:
    return [read_error(frame) for frame in capture if is_icmp(frame, *kinds)]


def hop_limit(handle: socket.socket, site: Site, value: int) -> None:
    if site.family == 4:
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, value)
    else:
        handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, value)


def unfragmented(handle: socket.socket, site: Site) -> None:
    """Send with the don't-fragment flag, and whole even where IPv6 knows better."""
    if site.family == 4:
        handle.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    else:
        handle.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
        handle.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)


def udp_header(source: int, target: int) -> bytes:
    return struct.pack("!HHHH", source, target, 60, 0)


def ip4_quote(source: str, target: str, *, words: int = 5, fragment: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, 80, 1, fragment, 63, 17, 0)
    header += ip_address(source).packed + ip_address(target).packed + b"\x01" * 4 * (words - 5)
    return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:]


def ip6_quote(source: str, target: str, next_header: int) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, 80, next_header, 63)
    return header + ip_address(source).packed + ip_address(target).packed


def send_error(
    site: Site, machine: str, kind: int, code: int, quote: bytes, *, to: str | None = None, rest: int = 0
) -> None:
    """Send an ICMP error from a machine, to the client unless another address is named."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + quote
    to = to or site.lab.address("client", site.family)
    if site.family == 4:
        message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
        handle = site.lab.socket(machine, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    else:
        handle = site.lab.socket(machine, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with handle:
        handle.sendto(message, (to, 0))


def quotes_of(site: Site, client: str, node: str, port: int) -> list[bytes]:
    udp = udp_header(40000, port) + bytes(20)
    if site.family == 4:
        quoted = [ip4_quote(client, node, words=words) + udp for words in range(5, 16)]
        quoted.append(ip4_quote(client, node, fragment=0x2000) + udp)  # a first fragment
        return [*quoted, ip4_quote(client, node, fragment=0x0090) + bytes(28)]  # a later one
    fragment = struct.pack("!BBHI", 17, 0, 1, 7)
    later = struct.pack("!BBHI", 17, 0, 1440, 7)
    options = struct.pack("!BBHI", 17, 0, 0x0104, 0)
    before_options = struct.pack("!BBHI", 60, 0, 1, 7)
    return [
        ip6_quote(client, node, 17) + udp,
        ip6_quote(client, node, 44) + fragment + udp,
        ip6_quote(client, node, 44) + later + bytes(28),
        ip6_quote(client, node, 44) + before_options + options + udp,
        *(ip6_quote(client, node, extension) + options + udp for extension in (0, 43, 60)),
    ]


@contextmanager
def nothing_shown(site: Site) -> Iterator[Capture]:
    """See to it that no frame that reaches the client while the block runs holds a node's address."""
    with site.lab.capture("client", "eth0", outgoing=False) as capture:
        yield capture
        select.select([], [], [], QUIET)
    assert showing_a_node(site.lab, capture) == []
