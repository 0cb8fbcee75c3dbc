"""One daemon for each network namespace: a second one is refused, and commands that would act behind its back."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pointsman.kernel.errors import KernelError
from pointsman.reconcile.state import state_directory

NAME = "serve.lock"


@contextmanager
def only_one(directory: Path | None = None) -> Iterator[None]:
    """Keep a second daemon of this network namespace out; raise KernelError."""
    place = (directory or state_directory()) / NAME
    handle = _locked(place)
    try:
        with suppress(OSError):  # a full disk: the lock is what counts, the number is for people
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                if _is_at(place, handle):
                    place.unlink()
    finally:
        os.close(handle)


def refuse_beside_daemon(directory: Path | None = None) -> None:
    """Raise KernelError where a daemon runs, also one that cannot be asked: it would put everything back."""
    try:
        handle = os.open((directory or state_directory()) / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not _lock(handle, fcntl.LOCK_SH):  # several commands may ask at once
            raise KernelError(
                f"a daemon serves here (process {_pid(handle)}), but does not answer; "
                "wait for it, or stop it or start it anew first"
            )
    finally:
        os.close(handle)


def _locked(place: Path) -> int:
    while True:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise KernelError(f"cannot use {place}: {problem.strerror}; run as root") from None
        try:
            if not _lock(handle, fcntl.LOCK_EX):
                raise KernelError(f"a daemon serves here already (process {_pid(handle)}); stop it first")
            if _is_at(place, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # removed by the one who held the lock: again


def _is_at(place: Path, handle: int) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(handle: int) -> str:
    return os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
