"""Where control groups are: the cgroup2 file system of the machine's first mount namespace."""

from __future__ import annotations

from pathlib import Path

from pointsman.kernel import bpffs
from pointsman.kernel.errors import KernelError


def root() -> Path:
    """The mount point of cgroup2, as a path that holds here; raise KernelError where there is none.

    ``ip netns exec`` mounts another /sys, which has none.
    """
    first = bpffs.first_root()
    mounts = first.parent / "mounts" if first != Path("/") else Path("/proc/self/mounts")
    try:
        lines = mounts.read_text().splitlines()
    except OSError as problem:
        raise KernelError(f"cannot read {mounts}: {problem.strerror}") from None
    for line in lines:
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return first / place.lstrip("/")
    raise KernelError("there is no cgroup2 file system; mount one on /sys/fs/cgroup")


def found(name: str) -> Path | None:
    """The folder of a control group, by its path below the root; None where there is none."""
    try:
        folder = root() / name
        return folder if folder.is_dir() else None
    except (KernelError, OSError):
        return None
