"""A gateway between clients and nodes, for the conformance cases; the data plane is a parameter.

| role    | IPv4            | IPv6               |
|---------|-----------------|--------------------|
| VIP     | 192.0.2.10      | 2001:db8::10       |
| client  | 198.51.100.100  | 2001:db8:1::100    |
| n1, n2  | 10.0.0.11, .12  | fd00::11, fd00::12 |
"""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance import started

from pointsman.dataplane.xdp_maps import MapSet
from pointsman.kernel import bpffs, netns
from pointsman.lab.build import Lab
from pointsman.lab.topology import VIP
from pointsman.wire import dtls

COAPS = 5684
COAP = 5683
QUIET = 0.25
"""How long nothing must arrive before a datagram counts as dropped."""

PATIENCE = 4.0
"""How long what must arrive is waited for: a lost ARP request alone costs a second."""

UDP_NO_CHECK6_TX = 101
SO_NO_CHECK = 11
UDP_SEGMENT = 103

# What cases about the process of a command start; `Site.pointsman` saves the time that it takes to start Python.
POINTSMAN = [sys.executable, "-m", "pointsman.cli.main"]


def cid(
    node_id: int, *, rest: bytes = b"\xa1\xb2\xc3\xd4\xe5", body: bytes = b"\x17" * 24, seq: int = 1
) -> bytes:
    """A record whose 6-byte connection ID starts with the node id."""
    return dtls.cid_record(bytes([node_id]) + rest, seq=seq, body=body)


def hello(*, message_seq: int = 0, cookie: bytes = b"") -> bytes:
    return dtls.client_hello(b"\x11" * 32, cookie=cookie, message_seq=message_seq)


def flight5() -> bytes:
    """ClientKeyExchange, ChangeCipherSpec and a Finished under the connection ID, in one datagram."""
    exchange = dtls.handshake_record(16, b"\0\7client0", message_seq=2, record_seq=2)
    change = dtls.record(20, b"\1", epoch=0, sequence=3)
    return exchange + change + cid(250)


@dataclass(frozen=True)
class Arrival:
    """A datagram at a node: which one, what, from whom, on which port."""

    node: str
    payload: bytes
    source: tuple[str, int]
    port: int


class Site:
    """The lab under one data plane and one family, with what a test says to it."""

    def __init__(self, lab: Lab, plane: str, family: int) -> None:
        self.lab, self.plane, self.family = lab, plane, family
        self._nodes: dict[tuple[str, int], socket.socket] = {}
        self._clients: list[socket.socket] = []
        self._file = lab.scratch / f"gateway-{family}.toml"

    def close(self) -> None:
        for handle in [*self._nodes.values(), *self._clients]:
            handle.close()

    @property
    def inet(self) -> socket.AddressFamily:
        return socket.AF_INET if self.family == 4 else socket.AF_INET6

    @property
    def vip(self) -> str:
        return VIP[self.family]

    @property
    def other_vip(self) -> str:
        return {4: "192.0.2.20", 6: "2001:db8::20"}[self.family]

    def at(self, address: str, port: int | str) -> str:
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def node_address(self, node: str) -> str:
        return self.lab.address(node, self.family)

    # configuration

    def config(
        self,
        *,
        nodes: int | Sequence[str] = 2,
        listen: Sequence[str] = (),
        protocol: str = "dtls",
        connection_id: str | None = "{ offset = 0, bits = 8, length = 6 }",
        ids: Mapping[str, int] | None = None,
        ports: Mapping[str, int] | None = None,
        settings: str = "",
        more: str = "",
    ) -> str:
        """A file with one service ``s`` of this family and whatever ``more`` says."""
        names = [f"n{i}" for i in range(1, nodes + 1)] if isinstance(nodes, int) else list(nodes)
        port = COAPS if protocol == "dtls" else COAP
        listening = ", ".join(f'"{one}"' for one in listen or [self.at(self.vip, port)])
        lines = [
            "[gateway]",
            'name = "edge"',
            f'dataplane = "{self.plane}"',
            "hash_seed = 0x5eed1234",
            "[[service]]",
            'name = "s"',
            f'protocol = "{protocol}"',
            f"listen = [{listening}]",
            settings,
        ]
        with_cid = protocol == "dtls" and connection_id is not None
        if with_cid:
            lines.append(f"connection_id = {connection_id}")
        for name in names:
            address = self.node_address(name)
            if ports and name in ports:
                address = self.at(address, ports[name])
            lines += ["[[service.node]]", f'name = "{name}"', f'address = "{address}"']
            if with_cid:
                lines.append(f"id = {(ids or {}).get(name, int(name[1:]))}")
        return "\n".join([*lines, more, ""])

    def pointsman(
        self, *arguments: str, check: bool = True, machine: str = "gw"
    ) -> subprocess.CompletedProcess[str]:
        done = started.run(self.lab.namespace(machine), arguments, timeout=60)
        if check:
            assert done.returncode == 0, f"pointsman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def file(self, text: str) -> Path:
        self._file.write_text(text)
        return self._file

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        return self.pointsman("apply", str(self.file(text)))

    def serve(self, **service: Any) -> None:
        """Apply a file with one service."""
        self.apply(self.config(**service))

    def order(self, verb: str, node: str, service: str = "s") -> None:
        self.pointsman("node", verb, f"{service}/{node}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pointsman("status", "--json").stdout)
        return found

    def counted(self, verdict: str, node: str | None = None) -> int:
        """Packets of a verdict, of one node or in all."""
        status = self.status()
        total = status["counters"].get(verdict, {}).get("packets", 0)
        for service in status["services"]:
            for owner in [*service["listeners"], *service["nodes"]]:
                if node is None or owner.get("name") == node:
                    total += owner["counters"].get(verdict, {}).get("packets", 0)
        return int(total)

    # what the plane keeps in the kernel

    @contextmanager
    def maps(self) -> Iterator[MapSet]:
        """The maps of the XDP plane that is in force."""
        with self.lab.inside("gw"):
            root = bpffs.existing(f"netns-{netns.cookie()}")
        assert root is not None
        newest = max(root.glob("set-*"), key=lambda path: int(path.name.split("-")[1]))
        found = MapSet.from_pins(newest)
        try:
            yield found
        finally:
            found.close()

    def forget_flows(self, *names: str) -> None:
        """Take the plane's memory of flows away, or other memories of the XDP plane."""
        if self.plane == "xdp":
            with self.maps() as maps:
                for name in names or ("flows",):
                    maps.views[name][:] = bytes(len(maps.views[name]))
            return
        listed = json.loads(self.lab.run("gw", ["nft", "-t", "-j", "list", "maps"]).stdout)["nftables"]
        for each in (entry["map"] for entry in listed if "map" in entry):
            if each["name"].endswith("/flows"):
                place = [each["family"], each["table"], each["name"]]
                self.lab.run("gw", ["nft", "flush", "map", *place])

    def lose(self) -> None:
        """Take away what was applied, as others may who do not know what they do."""
        if self.plane == "nftables":
            self.lab.run("gw", ["nft", "delete", "table", "inet", "pointsman"])
            return
        with self.lab.inside("gw"):
            root = bpffs.existing(f"netns-{netns.cookie()}")
        assert root is not None
        shutil.rmtree(root)
        for device in ("wan0", "lan0"):  # or nobody would know any more that they are ours
            self.lab.run("gw", ["tc", "qdisc", "del", "dev", device, "clsact"])

    # traffic

    def node(self, name: str, port: int = COAPS) -> socket.socket:
        """The server socket of a node, made at the first call."""
        if (name, port) not in self._nodes:
            handle = self.lab.socket(name, self.inet, socket.SOCK_DGRAM)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            handle.bind((self.node_address(name), port))
            handle.setblocking(False)
            self._nodes[name, port] = handle
        return self._nodes[name, port]

    def nodes(self, names: Iterable[str], port: int = COAPS) -> None:
        for name in names:
            self.node(name, port)

    def close_node(self, name: str, port: int = COAPS) -> None:
        """End the server of a node: its machine answers port unreachable from now on."""
        self._nodes.pop((name, port)).close()

    def client(self, address: str | None = None, port: int = 0, machine: str = "client") -> socket.socket:
        handle = self.lab.socket(machine, self.inet, socket.SOCK_DGRAM)
        handle.bind((address or self.lab.address(machine, self.family), port))
        handle.settimeout(PATIENCE)
        self._clients.append(handle)
        return handle

    def arrivals(self, count: int = 1, wait: float = PATIENCE) -> list[Arrival]:
        """Up to ``count`` datagrams that reach any node within ``wait`` seconds."""
        found: list[Arrival] = []
        owners = {handle: name for name, handle in self._nodes.items()}
        end = time.monotonic() + wait
        while len(found) < count and (left := end - time.monotonic()) > 0:
            for handle in select.select(list(owners), [], [], left)[0]:
                payload, source = handle.recvfrom(70000)
                name, port = owners[handle]
                found.append(Arrival(name, payload, source[:2], port))
        return found

    def send(
        self, client: socket.socket, payload: bytes, vip: str | None = None, port: int = COAPS
    ) -> Arrival:
        """Send to the VIP and see where it comes out; fails if nowhere."""
        client.sendto(payload, (vip or self.vip, port))
        found = self.arrivals()
        assert found, f"a datagram to {vip or self.vip} port {port} reached no node"
        assert found[0].payload == payload
        return found[0]

    def dropped(
        self, client: socket.socket, payload: bytes, vip: str | None = None, port: int = COAPS
    ) -> None:
        client.sendto(payload, (vip or self.vip, port))
        assert self.arrivals(wait=QUIET) == []

    def answer(self, arrival: Arrival, payload: bytes = b"answer") -> None:
        self._nodes[arrival.node, arrival.port].sendto(payload, arrival.source)

    def ask(
        self, client: socket.socket, payload: bytes, vip: str | None = None, port: int = COAPS
    ) -> Arrival:
        """Send, have the node answer, and see that the answer comes from the VIP."""
        arrival = self.send(client, payload, vip, port)
        self.answer(arrival, b"to " + payload[:16])
        answer, source = client.recvfrom(70000)
        assert (answer, source[:2]) == (b"to " + payload[:16], (vip or self.vip, port))
        return arrival

    def tracked(self) -> int:
        """Connection-tracking entries of the gateway."""
        with self.lab.inside("gw"):
            try:
                return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())
            except FileNotFoundError:
                return 0
