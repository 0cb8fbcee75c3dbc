"""Frames that tell a link who has an address now, so that neighbours follow it to another gateway.

The frames are complete but for the padding to Ethernet's 60 bytes and the frame check sequence: drivers
add both.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack

from pointsman.wire.checksum import transport_checksum

BROADCAST = bytes.fromhex("ffffffffffff")

ALL_NODES = IPv6Address("ff02::1")
"""The all-nodes multicast address of a link (RFC 4291, section 2.7.1)."""

ALL_NODES_MAC = bytes.fromhex("333300000001")
"""Where Ethernet carries it (RFC 2464, section 7)."""

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
ICMPV6 = 58

NEIGHBOUR_ADVERTISEMENT = 136
"""RFC 4861, section 4.4, as are the flags; SOLICITED (0x40000000) stays clear in what nobody asked for."""

FLAG_ROUTER = 0x80000000
FLAG_OVERRIDE = 0x20000000
TARGET_LINK_LAYER_ADDRESS = 2
"""The option of RFC 4861, section 4.6.1."""


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """Announce an IPv4 address: an ARP request that asks for it and says who has it.

    The request form is the one that every neighbour takes, where replies that nobody asked for may be
    ignored.
    Raises ``ValueError`` unless ``mac`` has 6 bytes and ``address`` is one that a machine can have.
    Source: RFC 5227, sections 2.3 and 3; RFC 826.
    """
    _check(mac, address)
    request = pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed
    return BROADCAST + mac + pack("!H", ETHERTYPE_ARP) + request


def unsolicited_neighbour_advertisement(mac: bytes, address: IPv6Address, *, router: bool) -> bytes:
    """Announce an IPv6 address to all nodes, with the override flag: neighbours replace the MAC they know.

    ``router`` has to be true where the machine forwards, or hosts drop it from their default routers (RFC
    4861, section 7.2.5).
    Raises ``ValueError`` unless ``mac`` has 6 bytes and ``address`` is one that a machine can have.
    Source: RFC 4861, sections 4.4 and 7.2.6.
    """
    _check(mac, address)
    flags = FLAG_OVERRIDE | (FLAG_ROUTER if router else 0)
    body = pack("!I", flags) + address.packed + pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac
    unsummed = pack("!BBH", NEIGHBOUR_ADVERTISEMENT, 0, 0) + body
    checksum = transport_checksum(address, ALL_NODES, ICMPV6, unsummed)
    message = pack("!BBH", NEIGHBOUR_ADVERTISEMENT, 0, checksum) + body
    # Hop limit 255 proves that no router forwarded it; receivers drop anything else.
    header = pack("!IHBB", 6 << 28, len(message), ICMPV6, 255) + address.packed + ALL_NODES.packed
    return ALL_NODES_MAC + mac + pack("!H", ETHERTYPE_IPV6) + header + message


def _check(mac: bytes, address: IPv4Address | IPv6Address) -> None:
    if len(mac) != 6:
        raise ValueError(f"a MAC address of {len(mac)} bytes, it has 6")
    if address.is_multicast or address.is_unspecified:
        raise ValueError(f"{address} is no address of a machine")
