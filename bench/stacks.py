"""Real TCP and UDP at both ends: a client, the gateway and servers, each with the kernel's own stack.

    client [net] --veth-- [wan] gateway [lan] --veth-- [net] servers
    client [back] ---------------- veth ---------------- [back] servers

One namespace has all nodes' addresses. Everything runs on one core, as in the rig: a rate is the inverse of what one
request costs, clients and servers included.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import Pointsman
from bench.libbpf import Program
from bench.namespaces import CommandError, Namespace
from bench.programs import compile_program, require
from bench.rig import NET
from bench.traffic import LAN, MAC, VIP, WAN, Kind, node_address

if TYPE_CHECKING:
    from bench.rig import Site

BACK = "back"
BODY = 10_000  # of /large: a hundred times a small request's frame
SOURCE = {4: "198.18.0.253", 6: "2001:db8:b::fd"}
CLIENT = {4: "203.0.113.2", 6: "2001:db8:a::2"}
_LENGTH = {4: 24, 6: 64}
_ALONE = {4: 32, 6: 128}
_GATEWAY = {WAN: {4: "203.0.113.1", 6: "2001:db8:a::1"}, LAN: {4: "198.18.0.254", 6: "2001:db8:b::fe"}}
_BACK = {4: ("172.31.0.1/30", "172.31.0.2/30"), 6: ("2001:db8:f::1/64", "2001:db8:f::2/64")}
_NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 10000000;
  client_body_temp_path {folder}/temp;
  proxy_temp_path {folder}/temp;
  fastcgi_temp_path {folder}/temp;
  uwsgi_temp_path {folder}/temp;
  scgi_temp_path {folder}/temp;
  server {{
    listen 0.0.0.0:{port} backlog=8192;
    listen [::]:{port} backlog=8192;
    location / {{ return 200 "ok\\n"; }}
    location /large {{ root {folder}; }}
  }}
}}
"""
_serial = 0


class Forwarded(Pointsman):
    """Pointsman with another way of forwarding than nat."""

    def __init__(self, dataplane: str, forward: str = "nat") -> None:
        super().__init__(dataplane)
        self.name = f"pointsman {dataplane} {forward}"
        self._forward = forward

    def unable(self, site: Site) -> str:
        if self._forward == "dsr" and self._dataplane == "nftables" and site.kind is Kind.TCP:
            return "dsr for tcp is for xdp"
        # `check` outside of the gateway knows neither its addresses nor its links.
        return super().unable(site) if self._forward == "nat" else ""

    def _put_in_place(self, gateway: Namespace, file: Path) -> None:
        wanted = f'forward = "{self._forward}"'
        if self._forward == "full-nat":
            family = 6 if "2001:" in file.read_text() else 4
            gateway.ip([f"addr add {SOURCE[family]}/{_ALONE[family]} dev {LAN}{_nodad(family)}"])
            wanted += f'\nsource = "{SOURCE[family]}"'
        file.write_text(file.read_text().replace('forward = "nat"', wanted))
        super()._put_in_place(gateway, file)


class Arrived(ctypes.Structure):
    """Packets and bytes, Ethernet headers included. Mirrors struct arrived."""

    _fields_ = (("packets", ctypes.c_uint64), ("bytes", ctypes.c_uint64))
    packets: int
    bytes: int


class Network:
    """The three namespaces and their wiring; a context manager. ``direct``: servers answer past the gateway."""

    def __init__(self, site: Site, *, direct: bool = False) -> None:
        global _serial  # names must differ within the process as well as between processes
        _serial += 1
        self.site, self._direct = site, direct
        prefix = f"pmbench-{os.getpid()}-s{_serial}"
        self.client = Namespace(f"{prefix}-client")
        self.gateway = Namespace(f"{prefix}-gw")
        self.servers = Namespace(f"{prefix}-servers")
        self._counters: list[Program] = []
        self._stack = ExitStack()

    def __enter__(self) -> Network:
        require("ethtool", "ethtool")
        with ExitStack() as stack:
            for namespace in (self.client, self.gateway, self.servers):
                stack.enter_context(namespace)
            self._wire()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def nodes(self) -> list[str]:
        return [str(node_address(self.site.family, each)) for each in range(1, self.site.nodes + 1)]

    def _wire(self) -> None:
        family = self.site.family
        dad, length = _nodad(family), _LENGTH[family]
        quiet = {f"net.ipv6.conf.default.{key}": 0 for key in ("accept_dad", "accept_ra")}
        for namespace in (self.client, self.gateway, self.servers):
            namespace.sysctl(quiet)
        for outer, name, inner in ((self.client, "gen", WAN), (self.servers, "sink", LAN)):
            near = f"name {inner} address {MAC[inner].hex(':')} netns {self.gateway.name}"
            outer.ip(
                [f"link add {NET} address {MAC[name].hex(':')} type veth peer {near}", f"link set {NET} up"]
            )
            own = _GATEWAY[inner][family]
            self.gateway.ip([f"link set {inner} up", f"addr add {own}/{length} dev {inner}{dad}"])
            # NAPI at both ends for what XDP redirects; finished checksums, as a network card would see them.
            for where, link in ((outer, NET), (self.gateway, inner)):
                where.run(["ethtool", "-K", link, "gro", "on"])
            outer.run(["ethtool", "-K", NET, "tx", "off"])
        vip = f"{VIP[family]}/{_ALONE[family]}"
        self.gateway.ip([f"addr add {vip} dev {WAN}{dad}"])
        self.gateway.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        back_client, back_servers = _BACK[family]
        self.client.ip([
            f"addr add {CLIENT[family]}/{length} dev {NET}{dad}",
            f"route add default via {_GATEWAY[WAN][family]} dev {NET}",
            f"link add {BACK} type veth peer name {BACK} netns {self.servers.name}",
            f"link set {BACK} up",
            f"addr add {back_client} dev {BACK}{dad}",
        ])  # fmt: skip
        self.servers.ip([
            *(f"addr add {node}/{length} dev {NET}{dad}" for node in self.nodes),
            f"link set {BACK} up",
            f"addr add {back_servers} dev {BACK}{dad}",
        ])  # fmt: skip
        via, link = (back_client.split("/")[0], BACK) if self._direct else (_GATEWAY[LAN][family], NET)
        self.servers.ip([f"route add default via {via} dev {link}"])
        if self._direct:
            self.servers.sysctl({"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2})
            self.servers.ip([f"addr add {vip} dev lo"])
        for namespace in (self.client, self.servers):
            namespace.sysctl({"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0})
        self.client.sysctl({"net.ipv4.ip_local_port_range": "1024 65535"})

    def serve(self) -> None:
        """Start nginx, for all nodes; it ends with the network."""
        require("nginx", "nginx-light")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
        (folder / "conf").write_text(_NGINX.format(folder=folder, port=self.site.kind.port))
        (folder / "large").write_bytes(b"x" * BODY)
        folder.chmod(0o755)
        self.start(self.servers, ["nginx", "-c", str(folder / "conf"), "-e", str(folder / "error.log")])
        self.await_listener(self.servers)

    def start(self, where: Namespace, command: list[str]) -> subprocess.Popen[bytes]:
        """Start what ends with the network."""
        argv = ["ip", "netns", "exec", where.name, *command]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(child.wait, 10)
        self._stack.callback(child.terminate)
        return child

    def await_listener(self, where: Namespace) -> None:
        """Wait until somebody listens on the service's TCP port there."""
        end = time.monotonic() + 10
        while not where.run(["ss", "-Hltn", f"sport = :{self.site.kind.port}"]).strip():
            if time.monotonic() > end:
                raise CommandError(f"nobody listens on port {self.site.kind.port}")
            time.sleep(0.02)

    def count(self) -> None:
        """Count from now on what the gateway sends to either side."""
        for where in (self.client, self.servers):
            program = Program(compile_program("count"), "count")
            self._stack.callback(program.close)
            with where.entered():
                program.attach(socket.if_nametoindex(NET))
            self._counters.append(program)

    def carried(self) -> list[Arrived]:
        """Return what the client and the servers had from the gateway since ``count``."""
        found = []
        for program in self._counters:
            total = Arrived()
            for one in program.read_percpu("arrived", ctypes.sizeof(Arrived)):
                values = Arrived.from_buffer_copy(one)
                total.packets += values.packets
                total.bytes += values.bytes
            found.append(total)
        return found

    def wrk(
        self, address: str, path: str, seconds: int, *, close: bool, connections: int = 32
    ) -> tuple[int, float]:
        """Ask for a while with so many connections at once; return the requests, and as many a second.

        Raises ``CommandError`` where one is not answered as it should be.
        """
        require("wrk", "wrk")
        host = f"[{address}]" if ":" in address else address
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        command += ["-H", "Connection: close"] if close else []
        url = f"http://{host}:{self.site.kind.port}{path}"
        said = self.client.run([*command, url], timeout=seconds + 30)
        requests, rate = 0, 0.0
        for line in said.splitlines():
            words = line.split()
            if line.startswith("Requests/sec:"):
                rate = float(words[1])
            elif words[1:3] == ["requests", "in"]:
                requests = int(words[0])
            elif "Non-2xx" in line or "Socket errors" in line:
                raise CommandError(f"wrk: {line.strip()}")
        if not rate:
            raise CommandError(f"wrk: no answer from {url}")
        return requests, rate


def installed(tool: str) -> bool:
    return shutil.which(tool) is not None


def _nodad(family: int) -> str:
    return " nodad" if family == 6 else ""
