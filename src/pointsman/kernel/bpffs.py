"""Where pins live: a bpffs of Pointsman's own, in the first mount namespace of the machine.

``ip netns exec`` gives a command a mount namespace of its own, with /sys mounted anew: /sys/fs/bpf is hidden there,
and a mount made there goes with the command. So pins are never in /sys/fs/bpf. They are in /run/pointsman/bpf of PID
1's mount namespace, which is entered to mount it, and reached through /proc/1/root: this needs no propagation of
mounts, and every command of a machine comes to the same place. (A container's PID 1 is its own.)
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pointsman.kernel.bpf_library import BpfError, reason

PLACE: Final = "run/pointsman/bpf"
_BPF_FS_MAGIC: Final = 0xCAFE4A11
_CLONE_FS, _CLONE_NEWNS = 0x00000200, 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8


def root() -> Path:
    """The bpffs, mounted if need be; the path holds in every mount namespace of the machine. Raise BpfError."""
    first = first_root()
    with _locked(first):
        return _mounted(first)


def folder(name: str) -> Path:
    """A folder (0700) in it, made if need be; raise BpfError. A name of pins or folders holds no dot."""
    first = first_root()
    with _locked(first):
        path = _mounted(first) / name
        with _explained(f"cannot make {path}"):
            path.mkdir(mode=0o700, exist_ok=True)
    return path


def existing(name: str) -> Path | None:
    """The folder if it is there; nothing is mounted or made. Raise BpfError."""
    path = first_root() / PLACE / name
    with _explained(f"cannot look for {path}"):
        return path if path.is_dir() else None


def remove(path: Path) -> None:
    """Remove a folder and the pins in it, and unmount the bpffs if nothing else is there; raise BpfError."""
    first = first_root()
    with _locked(first):
        with _explained(f"cannot remove {path}"):
            if path.is_dir():
                _clear(path)
        place = first / PLACE
        with _explained(f"cannot unmount {place}"):
            if not _is_bpffs(place) or _in_use(place):
                return
            try:
                _in_namespace_of(first, _unmount)
            except OSError as problem:
                if problem.errno == errno.EBUSY:
                    return  # somebody stands in it; an empty bpffs harms nobody
                raise


def _unmount() -> None:
    place = Path("/", PLACE)
    _call("umount2", os.fsencode(place), 0)
    # In this namespace too: it takes copies away that namespaces made meanwhile have; in theirs it would be EBUSY.
    place.rmdir()


def _in_use(place: Path) -> bool:
    """Whether somebody has something there, pins or a folder for them.

    Names with dots are the kernel's own (maps.debug). iproute2 takes this bpffs for its own where it finds none in
    /sys/fs/bpf, and makes ``tc/globals`` and links to it; if it pins nothing there nothing is lost.
    """
    for entry in place.iterdir():
        if "." in entry.name or entry.is_symlink():
            continue
        if entry.name != "tc" or any(not each.is_dir() for each in entry.rglob("*") if not each.is_symlink()):
            return True
    return False


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _clear(entry)
        else:
            entry.unlink()
    path.rmdir()


def first_root() -> Path:
    """The root of the first mount namespace, as a path that holds here.

    PID 1's. Where a sandbox keeps that from us, our outermost ancestor's: it is older than an ``ip netns exec``.
    """
    own = Path("/proc/self/ns/mnt").stat().st_ino
    for pid in ("1", *reversed(_ancestors())):
        try:
            if Path(f"/proc/{pid}/ns/mnt").stat().st_ino == own:
                return Path("/")
            first = Path(f"/proc/{pid}/root")
            first.stat()
        except OSError:
            continue
        return first
    return Path("/")


def _ancestors() -> list[str]:
    found = []
    pid = str(os.getppid())
    while pid not in ("0", "1"):
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        found.append(pid)
        pid = status.rpartition(")")[2].split()[1]
    return found


def _mounted(first: Path) -> Path:
    place = first / PLACE
    with _explained(f"cannot mount a bpffs on {place}"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_bpffs(place):
            options = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            _in_namespace_of(
                first, lambda: _call("mount", b"bpf", f"/{PLACE}".encode(), b"bpf", options, b"mode=0700")
            )
    return place


def _is_bpffs(path: Path) -> bool:
    # f_type comes first, one machine word. os.statvfs() leaves it out.
    room = (ctypes.c_long * 64)()
    try:
        _call("statfs", os.fsencode(path), room)
    except FileNotFoundError:
        return False
    return room[0] & 0xFFFFFFFF == _BPF_FS_MAGIC


def _in_namespace_of(first: Path, action: Callable[[], None]) -> None:
    """Do something in the mount namespace of ``first``; raise OSError."""
    if first == Path("/"):
        action()
        return
    problems: list[OSError] = []

    def inside() -> None:
        try:
            # A thread may go where its process does not, if it shares no working directory with it. It ends there.
            _call("unshare", _CLONE_FS)
            entrance = os.open(first.parent / "ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _call("setns", entrance, _CLONE_NEWNS)
            finally:
                os.close(entrance)
            action()
        except OSError as problem:
            problems.append(problem)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def _call(name: str, *arguments: bytes | int | ctypes.Array[ctypes.c_long]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    if libc[name](*values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def _locked(first: Path) -> Iterator[None]:
    """Keep others from mounting a second one over it, and from making a folder while it is unmounted."""
    lock = (first / PLACE).with_name("bpf-lock")
    with _explained(f"cannot use {lock.parent}"):
        handle = _lock(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # the folder is left to reconcile.state, which may hold its lock
        os.close(handle)


def _lock(lock: Path) -> int:
    while True:
        try:
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # the folder was removed by a command that ended: again
        fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # removed by the one who held it: again


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        number = problem.errno or 0
        words = "this kernel has no bpffs" if number == errno.ENODEV else reason(number)
        raise BpfError(f"{what}: {words}", number) from None
