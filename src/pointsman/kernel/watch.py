"""Word from the kernel that somebody has changed links, addresses, rules, or nftables' tables."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from pointsman.kernel.errors import KernelError

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
ROUTE_GROUPS = (1, 5, 9, 8, 19)
"""RTNLGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR, _IPV4_RULE, _IPV6_RULE (linux/rtnetlink.h)."""
NFTABLES_GROUPS = (7,)
"""NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h)."""
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class Watch:
    """Sockets that become readable when something has changed; what it was, whoever is told has to look for."""

    def __init__(self) -> None:
        self.sockets = (_member(NETLINK_ROUTE, ROUTE_GROUPS), _member(NETLINK_NETFILTER, NFTABLES_GROUPS))

    def drain(self) -> None:
        """Read all that is there, so that the next word is a new one."""
        for each in self.sockets:
            while _read(each):
                pass

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def _read(handle: socket.socket) -> bool:
    try:
        handle.recv(1 << 16)
    except BlockingIOError:
        return False
    except OSError as problem:
        # More came than the socket holds: that is word enough of a change.
        if problem.errno != errno.ENOBUFS:
            raise
    return True


def _member(protocol: int, groups: Iterable[int]) -> socket.socket:
    try:
        handle = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        handle.bind((0, 0))
        for group in groups:
            handle.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError as problem:
        raise KernelError(f"cannot listen to the kernel's changes: {problem.strerror}") from None
    return handle
