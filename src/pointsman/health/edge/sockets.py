"""Sockets as targets want them: of the right family, from the right address, by the right interface."""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import suppress

from pointsman.health.probes.step import Outcome, failure, untried
from pointsman.health.targets import Target, source_of
from pointsman.health.through_tunnel import SEGMENT

MOST_FILES = 16384
_OWN = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.EPERM, errno.EACCES, errno.EADDRINUSE, errno.EADDRNOTAVAIL),
)
"""What is wrong here and not at the node. A packet filter of this machine's that refuses is among them."""


def raise_files_limit() -> int:
    """Allow as many open files as checks may take, where the hard limit lets it; return how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
            return ceiling
    return min(soft, MOST_FILES) if soft != resource.RLIM_INFINITY else MOST_FILES


def opened(target: Target, kind: int, protocol: int = 0, *, port: int = 0) -> socket.socket:
    """A non-blocking socket for the target, bound as its check says, and to the port unless 0; raises OSError."""
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
    found = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        if target.check.interface is not None:
            found.setsockopt(
                socket.SOL_SOCKET, socket.SO_BINDTODEVICE, target.check.interface.encode() + b"\0"
            )
        if target.tunnel is not None and kind == socket.SOCK_STREAM:
            # The kernel knows the link's size, and not what the tunnel takes of it.
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        source = source_of(target)
        if port:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port or source is not None:
            found.bind((str(source or ""), port))
    except BaseException:
        found.close()
        raise
    return found


def refusal(error: OSError) -> Outcome:
    """What an error of a socket says about the node, or about this machine."""
    ours = error.errno in _OWN
    words = os.strerror(error.errno) if error.errno else str(error)
    words = words[:1].lower() + words[1:]
    return untried(words) if ours else failure(words)
