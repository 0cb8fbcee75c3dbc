"""Turn a document into the gateway that it describes, and report what is wrong with each service."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from pointsman.config.across import check_across
from pointsman.config.addresses import AddressError, listener_endpoint, node_address
from pointsman.config.connection_id import check_ids, connection_id_range
from pointsman.config.document import Document, ListenerTable, NodeTable, ServiceTable
from pointsman.config.explain import missing_table
from pointsman.config.lines import Path
from pointsman.config.placed import PlacedListener, PlacedNode, PlacedService
from pointsman.config.primes import is_prime, nearest_prime
from pointsman.config.report import Report
from pointsman.config.wording import quoted, shown
from pointsman.model import (
    CidPolicy,
    DataPlaneChoice,
    Family,
    Forward,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Protocol,
    Scheduler,
    Service,
)

SMALLEST_TABLE = 251
LARGEST_TABLE = 1_000_003
ENTRIES_PER_NODE = 100


def resolve(document: Document, report: Report) -> Gateway:
    """Build the gateway; what it cannot be is in the report, and then the gateway is of no use."""
    if not document.service and not report.broken(("service",)):
        report.error((), *missing_table(("service",)))
    placed = [_service(("service", index), table, report) for index, table in enumerate(document.service)]
    _once(((one.path, one.service.name) for one in placed), "the service", report)
    check_across(placed, report)
    return Gateway(
        name=document.gateway.name,
        services=tuple(one.service for one in placed),
        hash_seed=_hash_seed(document, report),
        dataplane=DataPlaneChoice(document.gateway.dataplane),
    )


def derived_seed(name: str) -> int:
    """The hash seed of a gateway whose file has none: the first 32 bits of its name's SHA-256."""
    return int.from_bytes(sha256(name.encode()).digest()[:4], "big")


def _hash_seed(document: Document, report: Report) -> int:
    seed = document.gateway.hash_seed
    if seed is not None:
        return seed
    if not report.broken(("gateway", "hash_seed")):
        report.warn(
            ("gateway", "hash_seed"),
            "hash_seed is missing and made from the name, so others could guess which node a flow goes to",
            'hash_seed = "..." with the 8 digits that this prints: od -An -N4 -tx4 /dev/urandom',
        )
    return derived_seed(document.gateway.name)


def _service(path: Path, table: ServiceTable, report: Report) -> PlacedService:
    listeners = _listeners(path, table, report)
    nodes = tuple(
        _node((*path, "node", index), node, report)
        for index, node in enumerate(table.node)
        if not report.broken((*path, "node", index))
    )
    connection_id = connection_id_range(path, table, report)
    _timeouts(path, table, report)
    _maglev(path, table, report)
    check_ids(path, table, nodes, report)
    _nodes(path, table, nodes, report)
    _families(listeners, nodes, report)
    service = Service(
        name=table.name,
        protocol=Protocol(table.protocol),
        listeners=tuple(one.listener for one in listeners),
        nodes=tuple(one.node for one in nodes),
        forward=Forward(table.forward),
        scheduler=Scheduler(table.scheduler),
        connection_id=connection_id,
        cid_unknown=CidPolicy(table.cid_unknown),
        cid_node_down=CidPolicy(table.cid_node_down),
        handshake_timeout=table.handshake_timeout,
        flow_timeout=table.flow_timeout,
        maglev_table_size=table.maglev_table_size,
        flow_table_size=table.flow_table_size,
    )
    return PlacedService(path, service, listeners, nodes)


def _listeners(path: Path, table: ServiceTable, report: Report) -> tuple[PlacedListener, ...]:
    placed = []
    for index, one in enumerate(table.listen):
        where = (*path, "listen", index)
        if report.broken(where):
            continue
        listener = _listener(where, one, report)
        if listener:
            placed.append(PlacedListener(where, listener))
    if not table.listen and not report.broken((*path, "listen")):
        report.error(
            (*path, "listen"), "listen is empty", "an address with its port for each family that is served"
        )
    return tuple(placed)


def _listener(path: Path, table: ListenerTable, report: Report) -> Listener | None:
    if table.interface in (".", ".."):  # which the pattern lets pass, and the kernel does not
        report.error((*path, "interface"), f"interface {quoted(table.interface)} is no interface name")
    try:
        return Listener(listener_endpoint(table.address), table.interface, table.node_port)
    except AddressError as error:
        report.error((*path, "address"), f"listen {error.what}", error.allowed)
        return None


def _node(path: Path, table: NodeTable, report: Report) -> PlacedNode:
    found: dict[Family, tuple[NodeAddress, Path]] = {}
    where = (*path, "address")
    for index, text in enumerate(table.address):
        try:
            own = node_address(text)
        except AddressError as error:
            report.error((*where, index), f"address {error.what}", error.allowed)
            report.break_(where)  # which family it was meant to be cannot be told
            continue
        if own.family in found:
            report.error(
                (*where, index),
                f"address {quoted(text)} is a second one of IPv{own.family}",
                "one of each family; another server is another [[service.node]]",
            )
        else:
            found[own.family] = own, (*where, index)
    if not table.address and not report.broken(where):
        report.error(where, "address is empty", "one address of each family that the service listens on")
        report.break_(where)
    addresses = tuple(own for own, _ in found.values())
    node = Node(name=table.name, addresses=addresses, id=table.id, weight=table.weight)
    return PlacedNode(path, node, tuple(own_path for _, own_path in found.values()))


def _timeouts(path: Path, table: ServiceTable, report: Report) -> None:
    where = (*path, "handshake_timeout")
    if "handshake_timeout" in table.model_fields_set and table.protocol == "udp":
        report.error(where, "handshake_timeout on a udp service", "leave it out; flow_timeout is for udp")


def _maglev(path: Path, table: ServiceTable, report: Report) -> None:
    size, count = table.maglev_table_size, len(table.node)
    least = max(SMALLEST_TABLE, ENTRIES_PER_NODE * count)
    if least > LARGEST_TABLE:
        report.error(path, f"{count} nodes are too many", f"at most {LARGEST_TABLE // ENTRIES_PER_NODE}")
        return
    if size is None or (least <= size <= LARGEST_TABLE and is_prime(size)):
        return
    if size > LARGEST_TABLE:
        what = "is too large"
    elif size < least:
        what = f"is too small for {count} node{'' if count == 1 else 's'}"
    else:
        what = "is not a prime"
    report.error(
        (*path, "maglev_table_size"),
        f"maglev_table_size {shown(size)} {what}",
        f"a prime, {least}..{LARGEST_TABLE}, the nearest is {nearest_prime(size, least, LARGEST_TABLE)}",
    )


def _nodes(path: Path, table: ServiceTable, nodes: tuple[PlacedNode, ...], report: Report) -> None:
    _once(((one.path, one.node.name) for one in nodes), "the node", report)
    if not table.node:
        if not report.broken((*path, "node")):
            report.error(path, *missing_table(("service", "node")))
        return
    idle = [one for one in nodes if one.node.weight == 0]
    if len(idle) == len(table.node):
        report.error(path, "weight is 0 on every node", "at least one node of weight 1..100")
        return
    for one in idle:
        report.warn((*one.path, "weight"), "weight 0 takes no new flow", "1..100 for one that does")
    if len(table.node) == 1:
        report.warn(path, "one node, with nothing to go to when it is down", "two nodes or more")


def _families(listeners: tuple[PlacedListener, ...], nodes: tuple[PlacedNode, ...], report: Report) -> None:
    needed = {one.listener.family: one.listener for one in reversed(listeners)}
    for one in nodes:
        own = {address.family for address in one.node.addresses}
        where = (*one.path, "address")
        for family, listener in sorted(needed.items()):
            if family not in own and not report.broken(where):
                report.error(
                    where,
                    f"no IPv{family} address for listener {listener.endpoint}",
                    "an address of every family that the service listens on",
                )


def _once(named: Iterable[tuple[Path, str]], word: str, report: Report) -> None:
    """Report names that come twice among those that are meant to be unique."""
    first: dict[str, Path] = {}
    for path, name in named:
        where = (*path, "name")
        if report.broken(where):
            continue
        other = first.setdefault(name, where)
        if other != where:
            report.error(
                where,
                f"name {quoted(name)} is taken by {word} on line {report.line(other)}",
                "a name of its own",
            )
