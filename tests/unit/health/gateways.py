"""Gateways with checks, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from pointsman.model import (
    Check,
    Endpoint,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Protocol,
    Require,
    Service,
)

VIPS = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}


def service(
    checks: Iterable[Check],
    nodes: Mapping[str, tuple[str, ...]],
    *,
    name: str = "s",
    port: int = 80,
    families: tuple[int, ...] = (4,),
    require: Require = Require.ALL,
) -> Service:
    return Service(
        name,
        Protocol.TCP,
        tuple(Listener(Endpoint(VIPS[family], port)) for family in families),
        tuple(
            Node(node, tuple(NodeAddress(ip_address(own)) for own in addresses))
            for node, addresses in nodes.items()
        ),
        checks=tuple(checks),
        require=require,
    )


def gateway(*services: Service) -> Gateway:
    return Gateway("g", services, 1)
