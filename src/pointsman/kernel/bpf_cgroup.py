"""Programs on control groups, by links that can be pinned."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Self

from pointsman.kernel.bpf import Program
from pointsman.kernel.bpf_library import BpfError, Handle, info, library, reason


class CgroupLink(Handle):
    """A program on a control group, detached when the last descriptor and pin is gone; others' stay beside it."""

    KIND = "bpf-link"

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """Open a pinned link; raise BpfError."""
        return cls(cls._pinned(path))

    @property
    def cgroup(self) -> int:
        """The control group's number, 0 where it is gone; raise BpfError."""
        return int(struct.unpack_from("=Q", info(self.fd, 32), 16)[0])


def attach_cgroup(program: Program, folder: Path, attach_type: int) -> CgroupLink:
    """Attach to a control group, for what is in it and below; raise BpfError."""
    try:
        cgroup = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise BpfError(f"cannot open the control group {folder}: {problem.strerror}") from None
    try:
        fd = library().bpf_link_create(program.fd, cgroup, attach_type, None)
    finally:
        os.close(cgroup)
    if fd < 0:
        raise BpfError(f"cannot attach {program.name} to the control group {folder}: {reason(-fd)}", -fd)
    return CgroupLink(fd)


def cgroup_number(folder: Path) -> int:
    """What ``CgroupLink.cgroup`` gives for it; raise BpfError."""
    try:
        return folder.stat().st_ino
    except OSError as problem:
        raise BpfError(f"cannot look at the control group {folder}: {problem.strerror}") from None
