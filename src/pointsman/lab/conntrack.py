"""Forgetting flows, in the current thread's namespace.

It takes one netlink message, so the conntrack tool need not be installed.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from pointsman.lab.errors import LabError

_NETLINK_NETFILTER: Final = 12
_CT_DELETE: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK: Final = 0x5


def flush(family: int) -> None:
    """Delete all conntrack entries of one family (4 or 6)."""
    protocol = socket.AF_INET6 if family == 6 else socket.AF_INET
    # nfgenmsg: version 1 makes the kernel heed the family; with version 0 it deletes both.
    message = struct.pack("=LHHLLBBH", 20, _CT_DELETE, _REQUEST_ACK, 1, 0, protocol, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as handle:
        handle.bind((0, 0))
        handle.send(message)
        (error,) = struct.unpack_from("=i", handle.recv(4096), 16)
    if error:
        raise LabError(
            f"conntrack entries cannot be deleted: {os.strerror(-error)} (kernel module nf_conntrack_netlink)"
        )
