"""Finding and ending the processes of a lab, by pid and never the wrong one."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pointsman.lab.inside import NAMESPACES

GRACE: Final = 2.0  # seconds between TERM and KILL


@dataclass(frozen=True, slots=True)
class Process:
    """``start`` is in clock ticks since boot: a pid that was given out again has another one."""

    pid: int
    start: int


def parse_stat(text: str) -> tuple[int, int]:
    """The parent's pid and the start time, out of ``/proc/PID/stat``; the name may hold brackets."""
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), int(fields[19])


def identify(pid: int) -> Process | None:
    try:
        return Process(pid, parse_stat(Path(f"/proc/{pid}/stat").read_text())[1])
    except (OSError, IndexError):
        return None


def within(namespaces: Iterable[str]) -> list[Process]:
    """Every process whose main thread is in one of the namespaces, whoever started it."""
    inodes = set()
    for each in namespaces:
        with suppress(OSError):
            inodes.add((NAMESPACES / each).stat().st_ino)
    own = set(_lineage())
    found = (identify(pid) for pid in _pids() if pid not in own and _namespace_of(pid) in inodes)
    return [process for process in found if process]


def end(processes: Collection[Process], grace: float = GRACE) -> None:
    """TERM, and after ``grace`` seconds KILL, for those that are still who they were."""
    with ExitStack() as stack:
        waiting: set[int] = set()
        for process in processes:
            with suppress(OSError):
                fd = os.pidfd_open(process.pid)
                stack.callback(os.close, fd)
                if (
                    identify(process.pid) == process
                ):  # after opening: from here on the handle cannot mean another one
                    waiting.add(fd)
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            for fd in waiting:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
            waiting -= _gone(waiting, patience)


def _gone(handles: Collection[int], patience: float) -> set[int]:
    """Wait for all; return those that ended in time."""
    poll = select.poll()
    for fd in handles:
        poll.register(fd, select.POLLIN)
    gone: set[int] = set()
    deadline = time.monotonic() + patience
    while len(gone) < len(handles) and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            gone.add(fd)
    return gone


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _namespace_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0


def _lineage() -> Iterator[int]:
    """Yield this process and its ancestors: a shell in the lab may say ``lab down``."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = parse_stat(Path(f"/proc/{pid}/stat").read_text())[0]
        except OSError:
            return
