"""Control groups that a lab made: written down before they are, and removed with the lab."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pointsman.kernel import cgroups
from pointsman.kernel.errors import KernelError
from pointsman.lab.errors import LabError

_PATIENCE = 2.0  # seconds for what is ended to leave


def make(name: str, record: Path) -> Path:
    """A new control group, by its path below the root; raise LabError where there is one, or none can be made."""
    try:
        folder = cgroups.root()
        made = []
        for part in Path(name).parts:
            folder /= part
            if not folder.is_dir():
                made.append(folder)
        if not made:
            raise LabError(f"control group {name} exists on this machine: a lab would disturb what is in it")
        with record.open("a") as lines:
            lines.writelines(f"{each}\n" for each in made)
        for each in made:
            each.mkdir()
    except (OSError, KernelError) as problem:
        raise LabError(f"control group {name} cannot be made: {problem}") from None
    return folder


def remove(record: Path) -> None:
    """Remove those of the record, whose processes have been ended."""
    try:
        folders = [Path(line) for line in record.read_text().splitlines()]
    except OSError:
        return
    deadline = time.monotonic() + _PATIENCE
    for folder in reversed(folders):
        while folder.is_dir():
            with suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def entering(folder: Path, argv: list[str]) -> list[str]:
    """The command, by a shell that goes into the control group before it becomes it."""
    return ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(folder), *argv]
