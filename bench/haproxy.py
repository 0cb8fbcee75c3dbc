"""HAProxy in TCP mode: the user-space reference. It ends every connection itself, and makes another to a node."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import Able
from bench.programs import require
from bench.traffic import VIP, Kind, node_address

if TYPE_CHECKING:
    from bench.namespaces import Namespace
    from bench.rig import Site

_CONFIGURATION = """\
global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen service
  bind {bind}
  balance roundrobin
{servers}
"""


class Haproxy(Able):
    """One process with one thread and a configuration of its own; the system's service is left alone."""

    name = "haproxy, tcp mode"

    def __init__(self) -> None:
        self._stack = ExitStack()

    def unable(self, site: Site) -> str:
        return "" if site.kind is Kind.TCP else "HAProxy balances TCP alone"

    def setup(self, gateway: Namespace, site: Site) -> None:
        require("haproxy", "haproxy")
        port = site.kind.port
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
        nodes = [f"{node_address(site.family, each)}:{port}" for each in range(1, site.nodes + 1)]
        lines = "\n".join(f"  server n{number} {node}" for number, node in enumerate(nodes, start=1))
        file = folder / "haproxy.cfg"
        file.write_text(_CONFIGURATION.format(bind=f"{VIP[site.family]}:{port}", servers=lines))
        gateway.sysctl({"net.ipv4.ip_local_port_range": "1024 65535"})
        argv = ["ip", "netns", "exec", gateway.name, "haproxy", "-db", "-f", str(file)]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(child.wait, 10)
        self._stack.callback(child.kill)

    def teardown(self, gateway: Namespace) -> None:
        del gateway
        self._stack.close()
