"""ICMP and ICMPv6 echo (RFC 792; RFC 4443, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.wire.checksum import internet_checksum

REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}


@dataclass(frozen=True, slots=True)
class Echo:
    identifier: int
    sequence: int
    data: bytes


def request(family: int, echo: Echo) -> bytes:
    """Write an echo request; ICMPv6's checksum, which needs addresses, is left to the kernel."""
    numbers = echo.identifier.to_bytes(2, "big") + echo.sequence.to_bytes(2, "big")
    kind = bytes((REQUEST[family], 0))
    checksum = internet_checksum(kind + bytes(2) + numbers + echo.data) if family == 4 else 0
    return kind + checksum.to_bytes(2, "big") + numbers + echo.data


def parse_reply(family: int, message: bytes) -> Echo | None:
    """Read an echo reply, whose checksum the kernel has verified; None for anything else."""
    if len(message) < 8 or message[0] != REPLY[family] or message[1]:
        return None
    return Echo(int.from_bytes(message[4:6], "big"), int.from_bytes(message[6:8], "big"), message[8:])


def behind_ipv4(packet: bytes) -> bytes:
    """What follows an IPv4 header (RFC 791, section 3.1); nothing of what is none."""
    length = (packet[0] & 0x0F) * 4 if packet and packet[0] >> 4 == 4 else 0
    return packet[length:] if length >= 20 else b""
