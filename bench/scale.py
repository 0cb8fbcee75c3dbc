"""A thousand services with ten nodes each, in both families: what each command takes of time and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.contenders import POINTSMAN
from bench.namespaces import CommandError, Namespace

if TYPE_CHECKING:
    from rich.console import Console

SERVICES = 1000
NODES = 10
_VIP = {4: IPv4Address("10.1.0.0"), 6: IPv6Address("2001:db8:1::")}
_NODE = {4: IPv4Address("10.2.0.0"), 6: IPv6Address("2001:db8:2::")}
_MEMORY = ("MemAvailable", "Slab", "SUnreclaim", "Percpu", "VmallocUsed")
_CHANGES = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One command: wall-clock seconds, and the resident set of the largest of its processes."""

    command: str
    seconds: float
    peak_mib: float


def main(output: Console) -> dict[str, Any]:
    """Run the commands on both planes, print their tables and return the figures."""
    return {plane: _of_plane(output, plane) for plane in ("nftables", "xdp")}


def _of_plane(output: Console, plane: str) -> dict[str, Any]:
    """The same in a namespace of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="pmbench-") as scratch,
        Namespace(f"pmbench-{os.getpid()}-scale") as gateway,
    ):
        folder = Path(scratch)
        file = folder / "gateway.toml"
        file.write_text(configuration(plane))
        _wire(gateway)
        runs = [_run(gateway, folder, "check", str(file)), _run(gateway, folder, "plan", str(file))]
        before = _memory()
        runs.append(_run(gateway, folder, "apply", str(file)))
        after = _memory()
        runs.append(
            _run(gateway, folder, "apply", str(file))
        )  # nothing to do: what a difference of nothing costs
        node = f"svc-{SERVICES // 2}/n3"
        changes = []
        for _ in range(_CHANGES):
            changes.append(_run(gateway, folder, "node", "drain", node))
            changes.append(_run(gateway, folder, "node", "enable", node))
        runs.append(_run(gateway, folder, "down"))
        maps = _maps(gateway, file) if plane == "xdp" else None
    memory = {name: (after[name] - before[name]) / 1024 for name in _MEMORY}
    change = statistics.median(one.seconds for one in changes)
    peak = max(one.peak_mib for one in changes)
    runs.insert(4, Run(f"node drain|enable {node}", change, peak))
    output.print(_table(runs, plane))
    deltas = ", ".join(f"{name} {delta:+.0f} MiB" for name, delta in memory.items())
    output.print(
        f"Kernel memory over the first apply (the whole machine's /proc/meminfo): {deltas}", highlight=False
    )
    found: dict[str, Any] = {"runs": [asdict(one) for one in runs], "kernel_memory_mib": memory}
    if maps is not None:
        locked = sum(maps["memory"].values()) / (1 << 20)
        output.print(
            f"In one process: compiled in {maps['compile']:.3f} s, all maps loaded in {maps['load']:.3f} s, "
            f"one node changed in {maps['change'] * 1000:.1f} ms; maps lock {locked:.0f} MiB",
            highlight=False,
        )
        found["maps"] = maps
    return found


def _maps(gateway: Namespace, file: Path) -> dict[str, Any]:
    measured: dict[str, Any] = json.loads(gateway.run([sys.executable, "-m", "bench.maps", str(file)]))
    return measured


def configuration(plane: str = "nftables") -> str:
    """Return the configuration; every service has nodes of its own, as replies without state require."""
    parts = [f'[gateway]\nname = "bench"\ndataplane = "{plane}"\nhash_seed = "6a09e667"\n']
    for service in range(1, SERVICES + 1):
        parts.append(f"""
[[service]]
name = "svc-{service}"
protocol = "dtls"
listen = ["{_VIP[4] + service}:5684", "[{_VIP[6] + service}]:5684"]
forward = "nat"
scheduler = "maglev"
connection_id = {{ offset = 0, bits = 8, length = 6 }}
""")
        for node in range(1, NODES + 1):
            at = service * NODES + node
            parts.append(f"""
[[service.node]]
name = "n{node}"
id = {node}
address = ["{_NODE[4] + at}", "{_NODE[6] + at}"]
""")
    return "".join(parts)


def _wire(gateway: Namespace) -> None:
    """Give the gateway routes to its clients and nodes, as `check` may look at them."""
    gateway.run(["ip", "link", "add", "wan", "type", "veth", "peer", "name", "lan"])
    gateway.ip([
        "link set wan up",
        "link set lan up",
        "addr add 203.0.113.1/24 dev wan",
        "addr add 2001:db8:a::1/64 dev wan nodad",
        "addr add 10.2.255.254/16 dev lan",
        "addr add 2001:db8:2::ffff/64 dev lan nodad",
    ])  # fmt: skip


def _run(gateway: Namespace, folder: Path, *arguments: str) -> Run:
    command = ["ip", "netns", "exec", gateway.name, str(POINTSMAN), *arguments]
    environment = {**os.environ, "POINTSMAN_STATE_DIR": str(folder / "state")}
    with (folder / "stderr").open("w+") as stderr:
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # its usage covers the processes that it waited for
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        said = stderr.read().strip()
    name = " ".join([arguments[0], *(one for one in arguments[1:] if not one.startswith("/"))])
    if process.returncode:
        raise CommandError(f"pointsman {name}: exit status {process.returncode}: {said[-500:]}")
    return Run(name, seconds, usage.ru_maxrss / 1024)


def _memory() -> dict[str, int]:
    """Return /proc/meminfo's KiB, after a while in which the kernel frees what it no longer needs."""
    time.sleep(1)
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


def _table(runs: list[Run], plane: str) -> Table:
    title = f"{plane}: {SERVICES:,} services, {NODES} nodes each, both families"
    table = Table(title=title, title_justify="left")
    table.add_column("pointsman")
    table.add_column("seconds", justify="right")
    table.add_column("largest process, MiB", justify="right")
    for one in runs:
        table.add_row(one.command, f"{one.seconds:.3f}", f"{one.peak_mib:.0f}")
    return table
