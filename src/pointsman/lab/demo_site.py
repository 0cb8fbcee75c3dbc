"""A gateway under ``pointsman apply`` in a lab, with a configuration made for it, its orders and its counters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pointsman.lab.build import Lab
from pointsman.lab.demo_peers import Client, Event, Server, at
from pointsman.lab.errors import LabError
from pointsman.lab.topology import VIP

POINTSMAN: Final = (sys.executable, "-m", "pointsman.cli.main")
HASH_SEED: Final = "5eed1ab0"
FAMILIES: Final = (4, 6)

MASQUERADE: Final = """\
table inet somebody_else {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname { "lan0", "wan0" } masquerade
  }
}
"""
"""Somebody else's rule on the gateway: with it, whatever conntrack sees leaves with the gateway's address."""


@dataclass(frozen=True, slots=True)
class Served:
    """A ``dtls`` service on both families' VIPs; without ``by_cid`` it goes by the client's address alone."""

    name: str
    port: int
    nodes: Sequence[str]
    by_cid: bool = True
    node_ports: Mapping[str, int] = field(default_factory=dict)
    settings: str = ""

    def text(self, lab: Lab) -> str:
        listen = (f'{{ address = "{at(VIP[each], self.port)}", interface = "wan0" }}' for each in FAMILIES)
        lines = [
            "[[service]]",
            f'name = "{self.name}"',
            'protocol = "dtls"',
            f"listen = [{', '.join(listen)}]",
        ]
        if self.by_cid:
            lines.append("connection_id = { offset = 0, bits = 8, length = 6 }")
        lines.append(self.settings)
        for node in self.nodes:
            own = [lab.address(node, each) for each in FAMILIES]
            if port := self.node_ports.get(node):
                own = [at(address, port) for address in own]
            addresses = ", ".join(f'"{address}"' for address in own)
            lines += ["[[service.node]]", f'name = "{node}"', f"address = [{addresses}]"]
            if self.by_cid:
                lines.append(f"id = {node_id(node)}")
        return "\n".join(lines)


def node_id(node: str) -> int:
    return int(node.removeprefix("n"))


class Site:
    """The lab's gateway and the DTLS servers behind it."""

    def __init__(self, lab: Lab, peer: Path, plane: str) -> None:
        self.lab, self.peer, self.plane = lab, peer, plane
        self.servers: list[Server] = []
        self._clients: list[Client] = []

    def close(self) -> None:
        """End every peer at once, whatever it is doing."""
        for each in (*self._clients, *self.servers):
            each.kill()
        self._clients.clear()
        self.servers.clear()

    def serve(self, nodes: Sequence[str], port: int, *more: str) -> None:
        """Start servers for both families, with the node's id in their connection IDs."""
        for family in FAMILIES:
            self.servers += [
                Server(self.lab, self.peer, node, family, port, node_id(node), *more) for node in nodes
            ]

    def client(self, machine: str, family: int, port: int, sessions: int, *more: str) -> Client:
        """Start sessions from one machine to a listener."""
        client = Client(self.lab, self.peer, machine, at(VIP[family], port), sessions, *more)
        self._clients.append(client)
        return client

    def servers_of(self, *, port: int | None = None, node: str | None = None) -> list[Server]:
        return [
            each
            for each in self.servers
            if (port is None or each.port == port) and (node is None or each.node == node)
        ]

    def stats(self, *, port: int | None = None, node: str | None = None) -> list[Event]:
        return [each.stats() for each in self.servers_of(port=port, node=node)]

    def configuration(self, *services: Served) -> Path:
        head = f'[gateway]\nname = "edge"\ndataplane = "{self.plane}"\nhash_seed = "{HASH_SEED}"\n'
        file = self.lab.scratch / "gateway.toml"
        file.write_text(head + "\n".join(service.text(self.lab) for service in services) + "\n")
        return file

    def pointsman(self, *arguments: str) -> str:
        done = self.lab.run("gw", [*POINTSMAN, *arguments], check=False, timeout=60)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise LabError(f"pointsman {' '.join(arguments)}: {said[-1]}")
        return done.stdout

    def apply(self, *services: Served) -> None:
        self.pointsman("apply", str(self.configuration(*services)))

    def start_apply(self, *services: Served) -> subprocess.Popen[str]:
        """Begin to apply, and do not wait for it."""
        argv = [*POINTSMAN, "apply", str(self.configuration(*services))]
        return self.lab.popen("gw", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def order(self, verb: str, service: str, node: str) -> None:
        """Drain, disable or enable a node."""
        self.pointsman("node", verb, f"{service}/{node}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pointsman("status", "--json"))
        return found

    def counted(self, service: str, verdict: str) -> int:
        """Packets of a verdict in one service, over its listeners and nodes."""
        return sum(
            owner["counters"].get(verdict, {}).get("packets", 0)
            for each in self.status()["services"]
            if each["name"] == service
            for owner in (*each["listeners"], *each["nodes"])
        )

    def foreign_masquerade(self) -> None:
        """Load somebody else's masquerade rule on the gateway; it turns connection tracking on as well."""
        self.lab.run("gw", ["nft", "-f", "-"], text=MASQUERADE)

    def tracked(self) -> list[str]:
        """The gateway's connection-tracking entries of both families, a line each."""
        families = ("ipv4", "ipv6")
        found = (self.lab.run("gw", ["conntrack", "-L", "-f", family]) for family in families)
        return [line for done in found for line in done.stdout.splitlines() if line.strip()]


def of_ports(entries: Sequence[str], ports: Sequence[int]) -> list[str]:
    """The entries that name one of the ports, as source or destination, in either direction."""
    words = {f"{side}={port}" for side in ("sport", "dport") for port in ports}
    return [entry for entry in entries if words & set(entry.split())]
