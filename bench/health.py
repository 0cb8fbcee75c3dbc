"""What the check engine takes of a core and of memory, for thousands of checks of nodes that answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.namespaces import CommandError, Namespace, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

INTERVAL = 2.0
MIXES = (
    ("tcp, udp, icmp, coap, dtls", 5000, ("tcp", "udp", "icmp", "coap", "dtls")),
    ("tcp", 5000, ("tcp",)),
    ("udp", 5000, ("udp",)),
    ("icmp", 5000, ("icmp",)),
    ("coap", 5000, ("coap",)),
    ("dtls", 5000, ("dtls",)),
    ("http", 1000, ("http",)),
    ("tls", 500, ("tls",)),
    ("https", 500, ("https",)),
)
PORTS = {"tcp": 7, "udp": 7, "coap": 5683, "dtls": 5684, "http": 80, "tls": 443, "https": 443}
NGINX = """\
daemon off; user root; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 0.0.0.0:80 backlog=8192; listen [::]:80 backlog=8192;
    listen 0.0.0.0:443 ssl backlog=8192; listen [::]:443 ssl backlog=8192;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{ return 200 "ok\\n"; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """``core`` is the share of one core, ``peak_mib`` the largest resident set of the engine's process."""

    mix: str
    checks: int
    per_second: float
    core: float
    microseconds: float
    peak_mib: float
    healthy: int
    changes: int


def main(output: Console, *, quick: bool) -> dict[str, Any]:
    """Run each mix in a namespace with its responders, print the table and return the figures."""
    seconds = 10 if quick else 30
    found = [_load(mix, seconds) for mix in MIXES]
    output.print(_table(found))
    output.print(f"interval {INTERVAL:g} s, half of the nodes IPv4 and half IPv6; {seconds} s each")
    return {"interval": INTERVAL, "seconds": seconds, "loads": [asdict(one) for one in found]}


def _load(mix: tuple[str, int, tuple[str, ...]], seconds: float) -> Load:
    name, count, kinds = mix
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
        there = stack.enter_context(Namespace(f"pmbench-{os.getpid()}-health"))
        there.ip(["route add local 10.64.0.0/16 dev lo", "route add local fd64::/64 dev lo"])
        stack.enter_context(_process(there, [sys.executable, "-m", "bench.health_responder"]))
        if {"http", "https", "tls"} & set(kinds):
            stack.enter_context(_nginx(there, folder))
        time.sleep(1)
        command = [sys.executable, "-m", "bench.health_engine", str(count), str(seconds), *kinds]
        told = json.loads(there.run(command, timeout=seconds * 3 + 60))
    if told["healthy"] != count:
        raise CommandError(f"{name}: {told['healthy']} of {count} nodes were found healthy: {told['said']}")
    per_second = told["tries"] / told["seconds"]
    core = told["cpu"] / told["seconds"]
    return Load(
        name,
        count,
        per_second,
        core,
        core / per_second * 1e6,
        told["peak_kib"] / 1024,
        told["healthy"],
        told["changes"],
    )


@contextmanager
def _process(there: Namespace, command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(["ip", "netns", "exec", there.name, *command])
    try:
        yield
        if process.poll() is not None:
            raise CommandError(f"{' '.join(command)} has ended: exit status {process.returncode}")
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _nginx(there: Namespace, folder: Path) -> Iterator[None]:
    run(
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ],
            *[
                "-days",
                "2",
                "-subj",
                "/CN=bench",
                "-keyout",
                f"{folder}/key.pem",
                "-out",
                f"{folder}/cert.pem",
            ],
        ]
    )
    (folder / "conf").write_text(NGINX.format(folder=folder))
    with _process(there, ["nginx", "-c", f"{folder}/conf", "-e", "/dev/null"]):
        yield


def _table(loads: Sequence[Load]) -> Table:
    table = Table(title="Health checks: the engine's process, kernel time included")
    for heading in (
        "checks",
        "number",
        "tries a second",
        "of a core",
        "CPU time for one",
        "memory",
        "changes",
    ):
        table.add_column(heading, justify="left" if heading == "checks" else "right")
    for one in loads:
        table.add_row(
            one.mix,
            f"{one.checks:,}",
            f"{one.per_second:,.0f}",
            f"{one.core:.0%}",
            f"{one.microseconds:.0f} us",
            f"{one.peak_mib:.0f} MiB",
            str(one.changes),
        )
    return table
