"""`pointsman probe` where nothing is asked: what is wrong with the command line or the file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "health-checks.toml"
WITHOUT = EXAMPLE.with_name("tcp.toml")


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pointsman.cli.main", "probe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([EXAMPLE, "mail"], "no service 'mail' in the file; one of web, coap, coaps"),
        ([EXAMPLE, "web/n9"], "no node 'n9' in service web; one of n1, n2"),
        ([WITHOUT], f"{WITHOUT} has no checks; [[service.check]] in the file"),
        ([WITHOUT, "web"], "web has no checks; [[service.check]] in the file"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str | Path], line: str) -> None:
    done = probe(*map(str, arguments))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"pointsman: {line}\n")


def test_a_file_with_mistakes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(EXAMPLE.read_text().replace('"500ms"', '"9s"', 1))
    done = probe(str(file))
    assert done.returncode == 2
    assert "fast_interval 9s is longer than interval 2s" in done.stderr


def test_watching_ends_where_nobody_reads_any_more(tmp_path: Path) -> None:
    """The check of a port that nobody has, whose node is told to be unhealthy."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    file = tmp_path / "tcp.toml"
    file.write_text(
        f"""
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "s"
protocol = "tcp"
listen = ["192.0.2.10:80"]
[[service.check]]
type = "tcp"
port = {port}
interval = "100ms"
timeout = "50ms"
[[service.node]]
name = "n1"
address = "10.0.0.1"
[[service.node]]
name = "n2"
address = "10.0.0.2"
"""
    )
    command = [sys.executable, "-m", "pointsman.cli.main", "probe", "--watch", str(file)]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
