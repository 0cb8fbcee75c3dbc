"""Kernel settings of this network namespace, by path below /proc/sys."""

from __future__ import annotations

from pathlib import Path

from pointsman.kernel.errors import KernelError

ROOT = Path("/proc/sys")


def read(key: str) -> str | None:
    """The value, or None where the kernel has no such setting (a vanished interface, IPv6 switched off)."""
    try:
        return (ROOT / key).read_text().strip()
    except OSError:
        return None


def write(key: str, value: str) -> None:
    """Set ``key``; raise KernelError."""
    try:
        (ROOT / key).write_text(value)
    except OSError as problem:
        raise KernelError(f"cannot set {key} to {value}: {problem.strerror}") from None


def interfaces(family: int) -> list[str]:
    """The interfaces that have settings of this IP version, without ``all`` and ``default``."""
    folder = ROOT / "net" / f"ipv{family}" / "conf"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in ("all", "default"))
