"""The internet checksum: computed, checked and mended."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

UDP = 17
"""The protocol number of UDP."""


def internet_checksum(data: bytes) -> int:
    """Compute the 16-bit checksum of ``data``, as if an odd last byte were followed by a zero.

    Over data that holds its own right checksum it is 0.
    Source: RFC 1071.
    """
    if len(data) % 2:
        data += b"\0"
    # 65536 is 1 modulo 65535: the remainder of the whole is the sum of its 16-bit words with the carries
    # added. That sum is 0xffff rather than 0 unless there is nothing to add.
    number = int.from_bytes(data, "big")
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return total ^ 0xFFFF


def update(checksum: int, old: bytes, new: bytes) -> int:
    """Mend ``checksum`` after ``old`` was replaced by ``new`` at an even offset of what it covers.

    Both have the same even length. A UDP checksum of 0 stands for none and is not for this function.
    Raises ``ValueError`` for other lengths.
    Source: RFC 1624, equation 3.
    """
    if len(old) != len(new) or len(old) % 2:
        raise ValueError(f"{len(old)} bytes replaced by {len(new)}: the lengths have to be the same and even")
    total = checksum ^ 0xFFFF
    for position in range(0, len(old), 2):
        total += int.from_bytes(old[position : position + 2], "big") ^ 0xFFFF
        total += int.from_bytes(new[position : position + 2], "big")
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, length: int
) -> bytes:
    """Lay out what the checksums of transport protocols cover besides the segment of ``length`` bytes.

    Raises ``ValueError`` for addresses of two families.
    Source: RFC 768 (IPv4), RFC 8200 section 8.1 (IPv6).
    """
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are of two families")
    if source.version == 4:
        return b"".join((source.packed, destination.packed, bytes((0, protocol)), length.to_bytes(2, "big")))
    return b"".join(
        (source.packed, destination.packed, length.to_bytes(4, "big"), bytes((0, 0, 0, protocol)))
    )


def transport_checksum(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, segment: bytes
) -> int:
    """Compute the checksum of a transport segment whose checksum field is zero; of a right one it is 0.

    Raises ``ValueError`` for addresses of two families.
    """
    return internet_checksum(pseudo_header(source, destination, protocol, len(segment)) + segment)


def udp_checksum(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, segment: bytes
) -> int:
    """Compute the checksum to write into ``segment``, a UDP header and payload whose checksum field is zero.

    It is never 0, which would say that there is none: 0xffff stands for it.
    Raises ``ValueError`` for addresses of two families.
    Source: RFC 768, RFC 8200 section 8.1.
    """
    return transport_checksum(source, destination, UDP, segment) or 0xFFFF
