"""Answers a hundred times the size of requests: what of them the gateway carries with nat, and with dsr."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.namespaces import CommandError
from bench.rig import Site
from bench.stacks import Arrived, Forwarded, Network
from bench.traffic import VIP, Kind

if TYPE_CHECKING:
    from rich.console import Console

_NODES = 2
_REQUEST = 64
_TIMES = 100
_DATAGRAM = 1_280  # of an answer: five of them are a hundred requests
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """What was asked in one cell, and what passed the gateway meanwhile."""

    family: int
    kind: Kind
    contender: str
    requests: int
    per_second: float  # of TCP; 0: not measured
    to_client: Arrived
    to_nodes: Arrived


def main(output: Console, *, quick: bool) -> dict[str, Any]:
    """Measure, print a table and return the counts."""
    lines, unable = [], {}
    for family in (4,) if quick else (4, 6):
        for kind in (Kind.UDP, Kind.TCP):
            site = Site(family, _NODES, kinds=(kind,))
            for plane in ("nftables", "xdp"):
                for forward in ("nat", "dsr"):
                    contender = Forwarded(plane, forward)
                    if why := contender.unable(site):
                        unable[f"{kind.name}, {contender.name}"] = why
                    else:
                        lines.append(_measure(contender, site, direct=forward == "dsr", quick=quick))
    output.print(_table(lines))
    for name, why in unable.items():
        output.print(f"{name}: {why}", highlight=False, markup=False)
    return {"dsr": [_as_json(line) for line in lines]}


def _measure(contender: Forwarded, site: Site, *, direct: bool, quick: bool) -> Line:
    with Network(site, direct=direct) as network, ExitStack() as stack:
        if site.kind is Kind.TCP:
            network.serve()
        stack.callback(contender.teardown, network.gateway)
        contender.setup(network.gateway, site)
        network.count()
        if site.kind is Kind.TCP:
            seconds = 2 if quick else 5
            requests, rate = network.wrk(str(VIP[site.family]), "/large", seconds, close=False)
        else:
            rate, requests = 0.0, 1_000 if quick else 10_000
            _ask(network, requests, direct=direct)
        to_client, to_nodes = network.carried()
    return Line(site.family, site.kind, contender.name, requests, rate, to_client, to_nodes)


def _ask(network: Network, requests: int, *, direct: bool) -> None:
    """Send requests one at a time, from 16 sockets in turn, and answer each in several datagrams."""
    family, port = network.site.family, network.site.kind.port
    inet = socket.AF_INET if family == 4 else socket.AF_INET6
    with ExitStack() as stack:

        def bound(address: str) -> socket.socket:
            handle = stack.enter_context(socket.socket(inet, socket.SOCK_DGRAM))
            handle.bind((address, port))
            return handle

        with network.servers.entered():
            servers = [bound(each) for each in ([str(VIP[family])] if direct else network.nodes)]
        with network.client.entered():
            clients = [stack.enter_context(socket.socket(inet, socket.SOCK_DGRAM)) for _ in range(16)]
        for client in clients:
            client.settimeout(_PATIENCE)
        for number in range(requests):
            client = clients[number % len(clients)]
            client.sendto(bytes(_REQUEST), (str(VIP[family]), port))
            ready, _, _ = select.select(servers, [], [], _PATIENCE)
            if not ready:
                raise CommandError("a request did not arrive")
            request, peer = ready[0].recvfrom(2048)
            answer = bytes(_DATAGRAM)
            for _ in range(len(request) * _TIMES // _DATAGRAM):
                ready[0].sendto(answer, peer)
                if len(client.recv(2048)) != _DATAGRAM:
                    raise CommandError("an answer is not what was sent")


def _table(lines: list[Line]) -> Table:
    table = Table(
        title="what the gateway carries for one request, Ethernet headers included; "
        "load: all its bytes, the requests' own being 1",
        title_justify="left",
    )
    table.add_column("traffic")
    table.add_column("contender")
    for head in (
        *(f"{what} to {whom}" for what in ("packets", "bytes") for whom in ("nodes", "clients")),
        "load",
    ):
        table.add_column(head, justify="right")
    table.add_column("TCP answers/s", justify="right")
    for line in lines:
        n = line.requests
        load = (line.to_nodes.bytes + line.to_client.bytes) / line.to_nodes.bytes
        table.add_row(
            f"IPv{line.family} {line.kind.name}",
            line.contender,
            f"{line.to_nodes.packets / n:.2f}",
            f"{line.to_client.packets / n:.2f}",
            f"{line.to_nodes.bytes / n:,.0f}",
            f"{line.to_client.bytes / n:,.0f}",
            f"{load:.2f}",
            f"{line.per_second:,.0f}" if line.per_second else "",
        )
    return table


def _as_json(line: Line) -> dict[str, Any]:
    return {
        "family": line.family,
        "traffic": line.kind.name,
        "contender": line.contender,
        "requests": line.requests,
        "per_second": line.per_second,
        "packets_to_nodes": line.to_nodes.packets,
        "bytes_to_nodes": line.to_nodes.bytes,
        "packets_to_client": line.to_client.packets,
        "bytes_to_client": line.to_client.bytes,
    }
