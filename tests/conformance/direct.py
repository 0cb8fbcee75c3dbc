"""Nodes that have the VIP and a link of their own to the clients, by which they answer."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from tests.conformance.site import COAPS, Site

from pointsman.config import parse
from pointsman.lab.capture import Frame
from pointsman.plan.node_setup import wanted_of
from pointsman.reconcile import node_side

DSR = 'forward = "dsr"'


def tunnel(site: Site, *, gue: bool = False, more: str = "") -> str:
    """The keys of a tunnel that begins at the gateway's address on the nodes' link."""
    how = '\nencapsulation = "gue"' if gue else ""
    return f'forward = "tunnel"\nsource = "{site.lab.address("gw", site.family, "lan0")}"{how}\n{more}'


def set_up(site: Site, *names: str) -> None:
    """Do what `pointsman node-setup --apply` does on these nodes, by the file that was applied last."""
    service = parse(site._file.read_text(), "direct.toml").gateway.services[0]
    for name in names:
        node = service.node(name)
        assert node is not None
        wanted = wanted_of(service, node)
        assert wanted is not None
        with site.lab.inside(name):
            node_side.apply(f"s/{name}", wanted)


def put_back(site: Site, *names: str) -> None:
    for name in names:
        with site.lab.inside(name):
            node_side.remove(f"s/{name}")


def listen(site: Site, *names: str, port: int = COAPS, address: str | None = None) -> None:
    """Server sockets on nodes that are bound to the VIP."""
    for name in names:
        handle = site.lab.socket(name, site.inet, socket.SOCK_DGRAM)
        handle.bind((address or site.vip, port))
        handle.setblocking(False)
        site._nodes[name, port] = handle


def start(site: Site, names: Sequence[str] = ("n1", "n2"), *, settings: str = DSR, **service: Any) -> None:
    """Apply a file with one service whose nodes answer by themselves, prepare them and start their servers."""
    site.serve(nodes=list(names), settings=settings, **service)
    set_up(site, *names)
    listen(site, *names)


def of_vip(site: Site, frames: Iterable[Frame], vip: str | None = None) -> list[Frame]:
    """Frames with IP packets from the VIP."""
    packed, at = ip_address(vip or site.vip).packed, (12 if site.family == 4 else 8)
    kind = 0x0800 if site.family == 4 else 0x86DD
    return [frame for frame in frames if frame.ethertype == kind and frame.packet[at:].startswith(packed)]
