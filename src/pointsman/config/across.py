"""Checks that hold services against each other: listeners, VIPs, interfaces, and where replies come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pointsman.config.lines import Path
from pointsman.config.placed import PlacedListener, PlacedNode, PlacedService
from pointsman.config.report import Report
from pointsman.config.wording import quoted
from pointsman.model import Address, Protocol

# The data plane tells nodes apart by 16 bits.
MOST_NODES = 65535

Key = tuple[Address, int, bool]
"""Address, port, and whether it is TCP's."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of packets: from a listener to a node."""

    service: PlacedService
    listener: PlacedListener
    node: PlacedNode
    path: Path  # of the node's address

    @property
    def own_port(self) -> bool:
        return any(
            own.port is not None
            for own in self.node.node.addresses
            if own.family is self.listener.listener.family
        )


def check_across(services: Sequence[PlacedService], report: Report) -> None:
    """Report what no service shows on its own."""
    _total(services, report)
    twice = _listeners_once(services, report)
    _interfaces(services, report)
    _vips_are_no_nodes(services, report)
    _replies(services, twice, report)


def _total(services: Sequence[PlacedService], report: Report) -> None:
    nodes = [node for service in services for node in service.nodes]
    if len(nodes) > MOST_NODES:
        report.error(nodes[MOST_NODES].path, f"{len(nodes)} nodes in the file", f"at most {MOST_NODES}")


def _listeners_once(services: Sequence[PlacedService], report: Report) -> set[Path]:
    """Report listeners that come twice; returns the paths of those after the first."""
    first: dict[Key, tuple[PlacedService, PlacedListener]] = {}
    twice = set()
    for service in services:
        for one in service.listeners:
            endpoint = one.listener.endpoint
            other, listener = first.setdefault(
                (endpoint.address, endpoint.port, _is_tcp(service)), (service, one)
            )
            if listener is not one:
                twice.add(one.path)
                whose = "this service" if other is service else f"service {other.service.name}"
                report.error(
                    one.path,
                    f"listener {endpoint} is {whose}'s already, on line {report.line(listener.path)}",
                    "each address and port once in the file",
                )
    return twice


def _interfaces(services: Sequence[PlacedService], report: Report) -> None:
    first: dict[Address, tuple[str, PlacedListener]] = {}
    for service in services:
        for one in service.listeners:
            address, interface = one.listener.endpoint.address, one.listener.interface
            if interface is None:
                continue
            other, listener = first.setdefault(address, (interface, one))
            if other != interface:
                report.error(
                    (*one.path, "interface"),
                    f"interface {quoted(interface)} is to carry {address}, "
                    f"which {quoted(other)} carries by line {report.line(listener.path)}",
                    "one interface for one address",
                )


def _vips_are_no_nodes(services: Sequence[PlacedService], report: Report) -> None:
    vips: dict[Address, PlacedListener] = {}
    for service in services:
        for one in service.listeners:
            vips.setdefault(one.listener.endpoint.address, one)
    for service in services:
        for node in service.nodes:
            for own, path in zip(node.node.addresses, node.address_paths, strict=True):
                if vip := vips.get(own.address):
                    report.error(
                        path,
                        f"address {own.address} is that of listener {vip.listener.endpoint} "
                        f"on line {report.line(vip.path)}",
                        "an address of a server behind the gateway",
                    )


def _replies(services: Sequence[PlacedService], twice: set[Path], report: Report) -> None:
    """Report node endpoints whose replies could be from several listeners, or that several nodes share.

    Replies are translated by their source address and port alone, so these must name one listener.
    """
    first: dict[Key, _Way] = {}
    shared: set[tuple[Path, Path]] = set()
    ambiguous: dict[tuple[Path, Path], list[tuple[_Way, _Way]]] = {}
    for key, way in _ways(services, twice):
        other = first.setdefault(key, way)
        if other is way:
            continue
        if other.service is way.service and other.node is not way.node:
            if (other.path, way.path) not in shared:
                shared.add((other.path, way.path))
                _shared(key, other, way, report)
        else:
            ambiguous.setdefault((other.listener.path, way.listener.path), []).append((other, way))
    for ways in ambiguous.values():
        _ambiguous(ways, report)


def _ways(services: Sequence[PlacedService], twice: set[Path]) -> Iterator[tuple[Key, _Way]]:
    for service in services:
        if service.service.forward.answers_pass_by:
            continue
        for listener in service.listeners:
            if listener.path in twice:
                continue
            family = listener.listener.family
            for node in service.nodes:
                for own, path in zip(node.node.addresses, node.address_paths, strict=True):
                    if own.family is family:
                        endpoint = node.node.endpoint(listener.listener)
                        port = endpoint.port if endpoint else 0
                        yield (own.address, port, _is_tcp(service)), _Way(service, listener, node, path)


def _is_tcp(placed: PlacedService) -> bool:
    return placed.service.protocol is Protocol.TCP


def _shared(key: Key, other: _Way, way: _Way, report: Report) -> None:
    report.error(
        way.path,
        f"address {_endpoint(key)} is that of node {other.node.node.name} on line {report.line(other.path)}",
        "an address of its own, or a port of its own",
    )


def _ambiguous(ways: list[tuple[_Way, _Way]], report: Report) -> None:
    other, way = ways[0]
    listener = way.listener.listener
    endpoint = way.node.node.endpoint(listener)
    more = f" and {len(ways) - 1} more" if len(ways) > 1 else ""
    whose = "" if other.service is way.service else f" of service {other.service.service.name}"
    node_port = "a node_port of its own for one of the listeners"
    if not (way.own_port or other.own_port):
        way_out = f"{node_port}, or another port in the nodes' address"
    elif other.service is way.service:  # one address line serves both listeners
        way_out = f"no port in address, and {node_port}"
    else:
        way_out = f"another port in address for one of the services, or none there and {node_port}"
    report.error(
        way.listener.path,
        f"listener {listener.endpoint} reaches node {way.node.node.name} at {endpoint}{more}, as does "
        f"listener {other.listener.listener.endpoint}{whose} on line {report.line(other.listener.path)}, "
        "and replies would not tell which",
        f"{way_out} (docs/adr/0004-stateless-replies.md says why)",
    )


def _endpoint(key: Key) -> str:
    address, port, _ = key
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
