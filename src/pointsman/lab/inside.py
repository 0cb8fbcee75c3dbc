"""Entering a network namespace in the current thread.

Sockets stay in the namespace they were made in, and so do processes: what is forked inside lives there.
``/sys`` stays the machine's own (``ip netns exec`` would mount another one, without cgroups); ``/proc/net``
is the main thread's, so read ``/proc/thread-self/net``; ``/proc/sys/net`` is the calling thread's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from pointsman.lab.errors import LabError

NAMESPACES: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc().setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def enter(namespace: str) -> None:
    """Move the current thread into a named namespace, for good."""
    try:
        there = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LabError(f"there is no network namespace {namespace}") from None
    try:
        _setns(there)
    except PermissionError:
        raise LabError(f"entering network namespace {namespace} needs root") from None
    finally:
        os.close(there)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the block in a named namespace; other threads stay where they are. Never await in it."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        try:
            yield
        finally:
            _setns(back)
    finally:
        os.close(back)


def write_sysctl(key: str, value: str) -> None:
    """Set ``net....`` in the current thread's namespace."""
    _sysctl_path(key).write_text(value)


def read_sysctl(key: str) -> str:
    return _sysctl_path(key).read_text().strip()


def _sysctl_path(key: str) -> Path:
    return Path("/proc/sys", *key.split("."))
