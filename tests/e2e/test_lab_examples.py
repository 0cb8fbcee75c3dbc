"""Every example starts in a lab by one command, and what the lab says to try works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.started import run

from pointsman.config import load
from pointsman.kernel import bpffs, cgroups, netns
from pointsman.lab import build
from pointsman.lab.inside import inside
from pointsman.reconcile.state import ROOT as APPLIED

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
SHOWN = {
    "full-nat": r"^n[12] answers 10\.0\.0\.[23]:",
    "guard": r"^guard coaps, .*: not_dtls 1$",
    "dtls-filter": r"^coaps on 192.0.2.10:5684: not_dtls 1$",
    "forwarding": r"^gateway: .*not_forwarded \d",
    "dsr": r"^video/n[12] +up +1 +(0 +)?\d+ +[1-9]\d*",
    "tunnel": r"^web/\w+-1 +up +1 +0 +[1-9]\d* +[1-9]\d* +0$",
}
"""A line of what is seen, by which one knows the role: a source, a reason, no replies."""

CONTROLS = {"multihome-address", "multihome-socket", "forwarding"}
"""Without it a machine answers by its first uplink alone, and forwards to nodes what it should not."""

POINTSMAN = [sys.executable, "-m", "pointsman.cli.main"]

pytestmark = [pytest.mark.netns, pytest.mark.peers]


def pointsman(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*POINTSMAN, *words], text=True, capture_output=True, timeout=120, check=False)


def start(example: str, name: str) -> list[tuple[str, list[str]]]:
    """Build the lab; what it says to try, as machines and commands on them."""
    up = pointsman("lab", "up", example, "--name", name, "--nats", "1")
    if "control group" in up.stderr and "cannot be made" in up.stderr:
        pytest.skip(up.stderr.strip())
    assert up.returncode == 0, up.stderr
    said = re.findall(rf"^  pointsman lab exec --name {name} (\w+) -- (.*)$", up.stdout, flags=re.MULTILINE)
    return [(machine, shlex.split(line)) for machine, line in said]


def kept_of(name: str) -> list[Path]:
    """What is kept of the lab's namespaces outside of them."""
    found = []
    for each in build.existing(name):
        with inside(each):
            key = f"netns-{netns.cookie()}"
        found.append(APPLIED / key)
        for folder in (key, key.replace("netns", "decap"), f"multihome-{key}"):
            if (pins := bpffs.existing(folder)) is not None:
                found.append(pins)
    return [path for path in found if path.exists()]


@pytest.fixture
def name() -> Iterator[str]:
    own = f"ex{os.getpid()}"
    yield own
    build.take_down(own)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_works_in_the_lab(path: Path, name: str) -> None:
    *asked, status = start(path.stem, name)
    lab = build.Lab.attach(name)
    assert asked
    seen = [lab.run(machine, command).stdout for machine, command in asked]
    assert status == ("gw", ["pointsman", "status"])
    shown = run(lab.namespace("gw"), ["status"], timeout=30)
    assert shown.returncode == 0
    seen.append(shown.stdout)
    assert re.search(SHOWN.get(path.stem, ""), "".join(seen), flags=re.MULTILINE), seen
    kept = kept_of(name)
    assert kept
    if path.stem in CONTROLS:
        without(lab, *asked[-1])
    down = pointsman("lab", "down", name)
    assert down.stdout == f"Lab {name} is down.\n"
    assert build.existing(name) == []
    assert [each for each in kept if each.exists()] == []
    groups = [server.cgroup for server in load(path).gateway.multihomes if server.cgroup]
    assert [group for group in groups if cgroups.found(group)] == []


def without(lab: build.Lab, machine: str, command: list[str]) -> None:
    """What was tried is not so where the file is not in force."""
    assert run(lab.namespace("gw"), ["down"], timeout=30).returncode == 0
    lab.sysctl("gw", "net.ipv4.ip_forward", "1")
    assert lab.run(machine, command, check=False).returncode == 1, command
