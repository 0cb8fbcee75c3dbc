"""Sockets that are bound on this machine."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from pointsman.model import Endpoint

LISTENING = "0A"
"""TCP_LISTEN, as /proc/net/tcp shows it."""


def bound_udp() -> set[Endpoint]:
    """Local addresses and ports of all UDP sockets, from /proc/net/udp and udp6 (proc_net(5))."""
    return _bound("udp")


def listening_tcp() -> set[Endpoint]:
    """The same of TCP sockets that listen."""
    return _bound("tcp", LISTENING)


def _bound(protocol: str, state: str | None = None) -> set[Endpoint]:
    found = set()
    for name, width in ((protocol, 8), (f"{protocol}6", 32)):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if state is not None and fields[3] != state:
                continue
            address, _, port = fields[1].partition(":")
            # 32-bit words, each in the machine's byte order
            words = b"".join(
                int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, width, 8)
            )
            found.add(Endpoint(IPv4Address(words) if width == 8 else IPv6Address(words), int(port, 16)))
    return found
