"""Pointsman as docs/howto/operations.md installs it: wheels, each in a folder of its own, without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROJECT = Path(__file__).parents[2]
OF_A_WHEEL = ("src", "bpf", "tools", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def wheel(place: Path, version: str) -> Path:
    """Build the wheel as ``make wheel`` does, of a copy of the source that calls itself ``version``."""
    copy = place / f"source-{version}"
    copy.mkdir(parents=True)
    for name in OF_A_WHEEL:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    (copy / "src/pointsman/__init__.py").write_text(f'"""Pointsman."""\n\n__version__ = "{version}"\n')
    subprocess.run(
        [*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(place), "."], cwd=copy, check=True
    )
    return next(place.glob(f"pointsman-{version}-*.whl"))


def install(wheel_file: Path, folder: Path) -> Path:
    """Install a wheel into a virtual environment; what it needs is the running interpreter's. The folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin/python")
    subprocess.run(
        [*PIP, "--python", python, "install", "--no-deps", "--no-index", str(wheel_file)], check=True
    )
    return folder
