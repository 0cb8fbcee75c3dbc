"""The systemd unit gives the daemon what it needs and no more; each capability is missed where it is taken away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from pointsman.kernel import netns
from pointsman.lab.build import Lab
from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP

UNIT = Path(__file__).parents[2] / "contrib/systemd/pointsman.service"
PAGE = Path(__file__).parents[2] / "docs/howto/operations.md"
POINTSMAN = (sys.executable, "-m", "pointsman.cli.main")
GROUP = "daemon"
"""Any group but root's."""
ON_BOTH = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_CHOWN"}
ON_XDP = {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT"}
BPFFS = Path("/run/pointsman/bpf")
NEEDED = {"nftables": ON_BOTH, "xdp": ON_BOTH | ON_XDP}

SANDBOX = """\
set -e
mount --bind /run /run
mkdir -p "$TMPDIR"
mount -t tmpfs tmp "$TMPDIR"
mount -o remount,bind,ro /
exec "$@"
"""
"""What ProtectSystem=strict with ReadWritePaths=/run, and PrivateTmp, make of the file system."""


def setting(name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def allowed() -> list[str]:
    return setting("CapabilityBoundingSet").split()


def test_the_page_says_what_each_capability_of_the_unit_is_for() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `CAP_")]
    told = {name for row in rows for name in re.findall(r"CAP_[A-Z_]+", row.split("|")[1])}
    assert told == set(allowed()) == NEEDED["xdp"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "pointsman.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/pointsman", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=stricter"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "stricter" in done.stderr, "the control"


def configuration(lab: Lab, plane: str) -> str:
    lines = [
        f'[gateway]\nname = "edge"\nhash_seed = 1\ndataplane = "{plane}"',
        f'[api]\nsocket_group = "{GROUP}"',
        '[[service]]\nname = "s"\nprotocol = "dtls"\nconnection_id = "californium"',
        "listen = [",
        ", ".join(f'{{ address = "{at}:5684", interface = "wan0" }}' for at in (VIP[4], f"[{VIP[6]}]")),
        "]",
        '[[service.check]]\ntype = "icmp"\ninterval = "1s"\ntimeout = "800ms"\ninterface = "lan0"',
    ]
    for node in ("n1", "n2"):
        addresses = ", ".join(f'"{lab.address(node, family)}"' for family in (4, 6))
        lines.append(f'[[service.node]]\nname = "{node}"\nid = {node[1:]}\naddress = [{addresses}]')
    return "\n".join([*lines, ""])


class Sandboxed:
    """``pointsman serve`` with some capabilities only, on a file system that is read-only but for /run."""

    def __init__(self, lab: Lab, file: Path, capabilities: Collection[str]) -> None:
        self.lab, self.file = lab, file
        self.log = file.with_suffix(".log")
        names = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
        privileges = [f"--bounding-set={names}", "--inh-caps=-all", "--no-new-privs"]
        argv = ["unshare", "--mount", "sh", "-c", f"umask {setting('UMask')}\n{SANDBOX}", "sh"]
        argv += ["setpriv", *privileges, *POINTSMAN, "serve", str(file), "--follow-file", "--log-format=json"]
        with self.log.open("w") as log:
            self.process = lab.popen(
                "gw", ["env", f"TMPDIR={lab.scratch / 'private'}", *argv], stdout=log, stderr=log
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.lab.run("gw", [*POINTSMAN, *arguments], check=False)

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def told(self, kind: str) -> list[str]:
        return [event["event"] for event in self.events() if event.get("kind") == kind]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def trouble(self) -> str:
        """What does not work; "" where all does."""
        if not self._wait(lambda: bool(self.told("started")) and self.run("events").returncode == 0):
            return f"no start: {self.log.read_text()[-500:]}"
        if "on xdp" in self.told("started")[0] and not self._pins().is_dir():
            return "what it pins would go with its mount namespace"
        group = self._group()
        if group != f"{GROUP} 755":
            return f"the socket's group and its folder's mode are {group}"
        if not self._wait(self._checked, 10):
            return f"checks: {self.run('status').stdout[-1000:]}"
        self.lab.run("gw", ["ip", "address", "delete", f"{VIP[4]}/32", "dev", "wan0"])
        self.lab.run("gw", ["ip", "address", "delete", f"{VIP[6]}/128", "dev", "wan0"])
        if not self._wait(lambda: bool(self.told("repaired"))):
            return f"no repair: {self.told('failed')}"
        if (done := self.run("node", "drain", "s/n2")).returncode:
            return done.stderr
        self.file.write_text(self.file.read_text().replace('name = "edge"', 'name = "edge-1"'))
        if not self._wait(lambda: bool(self.told("applied"))):
            return f"no reload: {self.told('refused')}"
        return "; ".join(self.told("failed"))

    def _checked(self) -> bool:
        status = json.loads(self.run("status", "--json").stdout or "{}")
        checks = [check for node in status["services"][0]["nodes"] for check in node.get("checks", ())]
        return bool(checks) and all(check["healthy"] for check in checks)

    def _pins(self) -> Path:
        with self.lab.inside("gw"):
            return BPFFS / f"netns-{netns.cookie()}"

    def _group(self) -> str:
        asks = "from pointsman.api.place import default_socket as d; s = d()"
        tells = "print(s.group(), f'{s.parent.stat().st_mode & 0o777:o}')"
        done = self.lab.run("gw", [sys.executable, "-c", f"{asks}; {tells}"])
        return done.stdout.strip()

    def _wait(self, true: Any, patience: float = 60) -> bool:
        end = time.monotonic() + patience
        while not true():
            if self.process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True


@pytest.mark.netns
def test_it_works_with_the_capabilities_and_paths_of_the_unit(lab: Lab, site: Site, plane: str) -> None:
    assert trouble(lab, plane, allowed()) == ""
    del site


@pytest.mark.netns
@pytest.mark.parametrize("missing", sorted(NEEDED["xdp"]))
def test_control_each_capability_is_needed(lab: Lab, site: Site, plane: str, missing: str) -> None:
    if (plane, missing) == ("xdp", "CAP_SYS_CHROOT") and BPFFS.is_mount():
        pytest.skip("another lab keeps the bpffs mounted, so nobody has to enter the first mount namespace")
    found = trouble(lab, plane, [name for name in allowed() if name != missing])
    assert bool(found) is (missing in NEEDED[plane]), found
    assert "Traceback" not in found
    del site


def trouble(lab: Lab, plane: str, capabilities: Collection[str]) -> str:
    file = lab.scratch / "unit.toml"
    file.write_text(configuration(lab, plane))
    daemon = Sandboxed(lab, file, capabilities)
    try:
        return daemon.trouble()
    finally:
        daemon.end()
