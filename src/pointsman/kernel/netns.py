"""Which network namespace this is."""

from __future__ import annotations

import socket

SO_NETNS_COOKIE = 71
"""Linux 5.14: a 64-bit number that no other namespace of this boot has or had."""


def cookie() -> int | None:
    """The namespace's number, or None on a kernel before 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return None
