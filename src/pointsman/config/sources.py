"""What belongs to one forward mode or scheduler alone: full-nat's sources, the tunnel, affinity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pointsman.config.addresses import AddressError, node_address
from pointsman.config.document import ServiceTable
from pointsman.config.lines import Path
from pointsman.config.placed import PlacedListener, PlacedService
from pointsman.config.prefixes import port_range
from pointsman.config.report import Report
from pointsman.model import (
    Address,
    Affinity,
    Encapsulation,
    Forward,
    PortRange,
    Sources,
    Tunnel,
    family_of,
)

FEWEST_PORTS = 64


def affinity_of(table: ServiceTable) -> Affinity | None:
    if table.affinity is None:
        return None
    return Affinity(table.affinity.ip4, table.affinity.ip6, table.affinity.timeout)


def tunnel_of(table: ServiceTable) -> Tunnel | None:
    if table.forward != "tunnel":
        return None
    return Tunnel(Encapsulation(table.encapsulation), table.gue_port, table.mss_clamp)


def sources_of(
    path: Path, table: ServiceTable, listeners: Iterable[PlacedListener], report: Report
) -> Sources | None:
    """The addresses and ports of full-nat, or the addresses that tunnels begin at: one of each family listened on."""
    if table.forward not in ("full-nat", "tunnel"):
        return None
    found: dict[Address, None] = {}
    for index, text in enumerate(table.source):
        where = (*path, "source", index)
        try:
            own = node_address(text)
        except AddressError as error:
            report.error(where, f"source {error.what}", error.allowed)
            continue
        if own.port is not None:
            report.error(
                where, f"source {own.address} has a port", "an address alone; source_ports has the ports"
            )
        if own.address in found:
            report.error(where, f"source {own.address} comes twice", "each address once")
        found[own.address] = None
    ports = PortRange(1024, 65535)
    try:
        ports = port_range(table.source_ports)
    except AddressError as error:
        report.error((*path, "source_ports"), f"source_ports {error.what}", error.allowed)
    if ports.last - ports.first + 1 < FEWEST_PORTS:
        report.error(
            (*path, "source_ports"),
            f"source_ports has {ports.last - ports.first + 1} ports",
            f"at least {FEWEST_PORTS}",
        )
    if not table.source and not report.broken((*path, "source")):
        report.error(
            path,
            f'forward = "{table.forward}" without source',
            'source = ["10.0.0.1"], an address of the gateway',
        )
    elif len(found) == len(table.source):
        of_family = {one.listener.family: one.listener for one in listeners}
        for family in sorted(of_family.keys() - {family_of(address) for address in found}):
            report.error(
                (*path, "source"),
                f"source has no IPv{family} address for listener {of_family[family].endpoint}",
                "an address of every family that the service listens on",
            )
    return Sources(tuple(found), ports)


def check_sources(services: Sequence[PlacedService], report: Report) -> None:
    """Report sources that are nodes or nodes' own by the VIP, or whose ports a listener has."""
    nodes = {own.address: node for one in services for node in one.nodes for own in node.node.addresses}
    for one in services:
        sources, where = one.service.sources, (*one.path, "source")
        if sources is None or report.broken(where):
            continue
        for address in sources.addresses:
            if node := nodes.get(address):
                report.error(
                    where,
                    f"source {address} is the address of node {node.node.name} on line {report.line(node.path)}",
                    "an address of the gateway",
                )
        if one.service.forward is Forward.TUNNEL:
            _no_vips(one, sources, report)
        else:
            _no_listeners(services, one, sources, report)


def _no_vips(one: PlacedService, sources: Sources, report: Report) -> None:
    for address in {own.listener.endpoint.address: None for own in one.listeners}:
        if address in sources.addresses:
            report.error(
                (*one.path, "source"),
                f"source {address} is a listener's address, which nodes have too and drop as a martian",
                "another address of the gateway",
            )


def _no_listeners(
    services: Sequence[PlacedService], one: PlacedService, sources: Sources, report: Report
) -> None:
    for listener in (listener for other in services for listener in other.listeners):
        end = listener.listener.endpoint
        if end.address in sources.addresses and sources.ports.first <= end.port <= sources.ports.last:
            report.error(
                (*one.path, "source"),
                f"source {end.address} has the port {end.port} in source_ports, which is that of the listener "
                f"on line {report.line(listener.path)}",
                "another address, or source_ports without it",
            )
            break
