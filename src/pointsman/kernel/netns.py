"""Which network namespace this is."""

from __future__ import annotations

import socket
from pathlib import Path

SO_NETNS_COOKIE = 71
"""Linux 5.14: a 64-bit number that no other namespace of this boot has or had."""
OWN = Path("/proc/thread-self/ns/net")
FIRST = Path("/proc/1/ns/net")


def cookie() -> int | None:
    """The namespace's number, or None on a kernel before 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return None


def folder() -> str:
    """What folders of this namespace are called, "" for the first one, whose need no name."""
    try:
        is_first = OWN.stat().st_ino == FIRST.stat().st_ino
    except OSError:
        is_first = False
    return "" if is_first else numbered_folder()


def numbered_folder() -> str:
    """The same by number, for the first one too: only root can tell which namespace is the first."""
    return f"netns-{cookie() or OWN.stat().st_ino}"
