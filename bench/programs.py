"""Compile the rig's BPF programs; they are built for the machine they run on, at the run."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent / "bpf"
BUILD = Path(__file__).parent.parent / "build" / "bench"


class ToolMissingError(RuntimeError):
    """A program that the benchmark needs is not installed."""


def require(tool: str, package: str) -> None:
    """Raise unless ``tool`` is on the path."""
    if shutil.which(tool) is None:
        raise ToolMissingError(f"{tool} is not installed (Debian: apt install {package})")


def compile_program(name: str) -> Path:
    """Compile ``bpf/NAME.bpf.c`` where it is newer than its object, and return the object's path."""
    require("clang", "clang libbpf-dev")
    source = _SOURCES / f"{name}.bpf.c"
    target = BUILD / f"{name}.bpf.o"
    newest = max(path.stat().st_mtime for path in (source, _SOURCES / "rig.h"))
    if target.exists() and target.stat().st_mtime > newest:
        return target
    BUILD.mkdir(parents=True, exist_ok=True)
    command = ["clang", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf"]
    # Packets are unaligned by nature, and the verifier holds each access against the machine's rules.
    command += ["-Wno-address-of-packed-member"]
    # Debian keeps <asm/types.h> in the multiarch folder, which a BPF target does not search.
    command += [f"-I/usr/include/{platform.machine()}-linux-gnu", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target
