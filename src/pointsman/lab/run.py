"""Running the system's tools, with their complaints as one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from pointsman.lab.errors import LabError


def feed(argv: Sequence[str], text: str) -> None:
    """Give a tool its lines on standard input; raise LabError with the line that it did not like."""
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{argv[0]}: {complaint(done.stderr, text)}")


def complaint(stderr: str, text: str) -> str:
    """What a tool said, with the input line it names ("Command failed -:3", or nft's "/dev/stdin:3:1-5")."""
    said = stderr.strip().splitlines() or ["failed without a word"]
    found = re.search(r"(?:failed -|stdin):(\d+)", stderr)
    lines = text.splitlines()
    if found and 1 <= int(found[1]) <= len(lines):
        return f"{said[0].strip()} (at: {lines[int(found[1]) - 1].strip()})"
    return said[0].strip()


def ip_batch(lines: Sequence[str], *, force: bool = False) -> None:
    if lines:
        feed(["ip", *(["-force"] if force else []), "-batch", "-"], "".join(f"{line}\n" for line in lines))


def require(*tools: str) -> None:
    """Stop here, and not half-way, without root or a tool."""
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it makes network namespaces")
    packages = {"ip": "iproute2", "nft": "nftables"}
    for tool in tools:
        if shutil.which(tool) is None:
            raise LabError(f"{tool} is not in PATH; on Debian: apt install {packages[tool]}")
