"""The unix socket: made in one step with its group and mode, and who is at its other end."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from pointsman.api.access import Peer
from pointsman.kernel.errors import KernelError

SO_PEERGROUPS = 59
"""Linux 4.13: all supplementary groups of who connected."""
OWN_GROUP = "pointsman"
_CREDENTIALS = struct.Struct("iII")
BACKLOG = 128
MOST_BYTES = 1024
"""What Python's getsockopt reads."""
MOST_NAMES = 256
NAMED_FOR = 300.0
"""Seconds till the user data base is asked again for a user's name."""


class GetsOptions(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket that listens at its path; ``group`` is the number of its group."""

    socket: socket.socket
    path: Path
    group: int
    inode: int

    @property
    def is_lost(self) -> bool:
        """Whether somebody took the path away, or put something else there."""
        try:
            return self.path.lstat().st_ino != self.inode
        except OSError:
            return True

    def close(self) -> None:
        """Remove the path where it is this socket's still, and close it."""
        with suppress(OSError):
            if not self.is_lost:
                self.path.unlink()
        self.socket.close()


def open_socket(path: Path, mode: int, group: str = "") -> UnixSocket:
    """Listen at the path; raises KernelError, also where another daemon listens there.

    A socket that nobody listens at is replaced. The new one has its group and mode before it has its name.
    """
    number = group_number(group)
    try:
        with _umask(0o022):  # the unit's is 0077, and the socket's group must get there
            path.parent.mkdir(parents=True, exist_ok=True)
        _must_be_free(path)
        temporary = path.with_name(f"{path.name}.new")
        temporary.unlink(missing_ok=True)
        opened = _bound(temporary, mode)
        try:
            # Where others may write to the folder, this may be a link by now.
            os.chown(temporary, -1, number, follow_symlinks=False)
            opened.listen(BACKLOG)
            temporary.replace(path)
            return UnixSocket(opened, path, number, path.lstat().st_ino)
        except OSError:
            opened.close()
            temporary.unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise KernelError(f"cannot listen at {path}: {problem.strerror or problem}") from None


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _bound(path: Path, mode: int) -> socket.socket:
    """Made with its mode, as a chmod would follow a link; nobody connects before it listens."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _umask(0o777 & ~mode):
            opened.bind(str(path))
    except OSError:
        opened.close()
        raise
    return opened


def _must_be_free(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise KernelError(f"cannot listen at {path}: there is a file that is no socket")
    if answers(path):
        raise KernelError(f"cannot listen at {path}: another daemon does; end it first")


def answers(path: Path) -> bool:
    """Whether somebody listens there; raises PermissionError where that cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except (BlockingIOError, TimeoutError):
            return True  # its queue is full
    return True


def group_number(name: str) -> int:
    """The group of that name; of "" that of our name, or this process's where the machine has none."""
    try:
        return grp.getgrnam(name or OWN_GROUP).gr_gid
    except KeyError:
        if name:
            raise KernelError(f"no group {name!r} for the socket; groupadd --system {name}") from None
        return os.getegid()


def peer_of(connection: GetsOptions) -> Peer:
    """Who connected, with all groups."""
    _, uid, gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    name = _name(uid, int(time.monotonic() / NAMED_FOR))
    return Peer(uid, frozenset((gid, *_supplementary(connection, name, gid))), name)


@lru_cache(MOST_NAMES)
def _name(uid: int, period: int) -> str:
    """The user's name, "" where there is none, looked up once in each period.

    A directory service that is away keeps the look-up waiting, and all callers with it.
    """
    del period
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _supplementary(connection: GetsOptions, name: str, gid: int) -> Iterable[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_BYTES)
    except OSError:
        # More of them than Python reads: as the user data base says, which is asked in no other case (see _name).
        return os.getgrouplist(name, gid) if name else ()
    return struct.unpack(f"{len(packed) // 4}I", packed)
