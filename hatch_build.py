"""Compile the XDP programs when the wheel is built: the wheel carries them, git does not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the object into the package; an editable install is left to `make programs`."""
        if version == "editable":
            return
        root = Path(self.root)
        folder = root / "src" / "pointsman" / "programs"
        subprocess.run([root / "tools" / "build-programs", folder], check=True)
        build_data["artifacts"].append("src/pointsman/programs/*.bpf.o")
