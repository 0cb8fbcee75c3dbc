"""Servers and clients out of Debian's packages, in the lab: nginx, wrk, mosquitto, redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pointsman.lab.build import Lab

NGINX = """\
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_timeout 300s;
  keepalive_requests 10000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 0.0.0.0:{port} backlog=8192;
    listen [::]:{port} backlog=8192;
    location / {{ return 200 "{node}\\n"; }}
  }}
}}
"""
MOSQUITTO = "listener {port}\nallow_anonymous true\npersistence false\nuser root\nlog_dest none\n"
PORTS = {"nginx": 8080, "mosquitto": 1883, "redis-server": 6379}


def needs(*programs: str) -> None:
    """Skip where one is not installed; `make setup` does that."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def _command(program: str, node: str, folder: Path) -> list[str]:
    port = PORTS[program]
    if program == "nginx":
        (folder / "conf").write_text(NGINX.format(folder=folder, port=port, node=node))
        return ["nginx", "-c", str(folder / "conf"), "-e", str(folder / "error.log")]
    if program == "mosquitto":
        (folder / "conf").write_text(MOSQUITTO.format(port=port))
        return ["mosquitto", "-c", str(folder / "conf")]
    return [
        *["redis-server", "--port", str(port), "--bind", "*", "-::*", "--protected-mode", "no"],
        *["--save", "", "--appendonly", "no", "--dir", str(folder), "--maxclients", "10000"],
    ]


@contextmanager
def running(lab: Lab, program: str, nodes: Sequence[str]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One server on each node, ended behind it."""
    needs(program)
    found: dict[str, subprocess.Popen[str]] = {}
    try:
        for node in nodes:
            folder = lab.scratch / f"{program}-{node}"
            folder.mkdir(exist_ok=True)
            command = _command(program, node, folder)
            found[node] = lab.popen(node, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for node in nodes:
            _answers(lab, node, PORTS[program])
        yield found
    finally:
        for process in found.values():
            process.terminate()
        for process in found.values():
            process.wait(10)


def _answers(lab: Lab, node: str, port: int) -> None:
    end = time.monotonic() + 10
    while True:
        with lab.socket(node, socket.AF_INET, socket.SOCK_STREAM) as handle:
            if handle.connect_ex((lab.address(node, 4), port)) == 0:
                return
        assert time.monotonic() < end, f"nothing listens on {node} port {port}"
        time.sleep(0.05)
