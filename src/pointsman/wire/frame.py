"""What an Ethernet frame carries, as far as its first bytes tell."""

from __future__ import annotations

ETHER_IPV4, ETHER_IPV6, ETHER_VLAN, ETHER_QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
UDP = 17
MOST_TAGS = 2


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of a UDP datagram, behind VLAN tags and IPv4 options too; None for anything else.

    Behind IPv6 extension headers, and in fragments but the first, it is not looked for.
    """
    at = 12
    kind = int.from_bytes(frame[at : at + 2], "big")
    for _ in range(MOST_TAGS):
        if kind not in (ETHER_VLAN, ETHER_QINQ):
            break
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    header = frame[at + 2 :]
    if kind == ETHER_IPV4 and len(header) >= 20:
        fragment = int.from_bytes(header[6:8], "big") & 0x1FFF
        protocol, size = header[9], (header[0] & 15) * 4
        if fragment:
            return None
    elif kind == ETHER_IPV6 and len(header) >= 40:
        protocol, size = header[6], 40
    else:
        return None
    return header[size + 8 :] if protocol == UDP and len(header) >= size + 8 else None
