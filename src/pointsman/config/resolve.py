"""Turn a document into the gateway that it describes, and report what is wrong with each service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from pointsman.config.across import check_across
from pointsman.config.addresses import AddressError, listener_range, node_address
from pointsman.config.api import api
from pointsman.config.checks import checks_of
from pointsman.config.combinations import check_combinations
from pointsman.config.connection_id import check_ids, connection_id_range
from pointsman.config.document import Document, ListenerTable, NodeTable, ServiceTable
from pointsman.config.explain import missing_table
from pointsman.config.filters import check_guards, filter_of, guards
from pointsman.config.forwarding import forwarding
from pointsman.config.lines import Path
from pointsman.config.multihome import multihomes
from pointsman.config.placed import PlacedListener, PlacedNode, PlacedService
from pointsman.config.primes import is_prime, nearest_prime
from pointsman.config.report import Report
from pointsman.config.sources import affinity_of, check_sources, sources_of, tunnel_of
from pointsman.config.wording import quoted, shown
from pointsman.model import (
    AllDown,
    CidPolicy,
    DataPlaneChoice,
    Endpoint,
    Family,
    Forward,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Passive,
    Protocol,
    Require,
    Scheduler,
    Service,
)
from pointsman.model.abilities import NFTABLES, PLANES, XDP, lacks

SMALLEST_TABLE = 251
LARGEST_TABLE = 1_000_003
ENTRIES_PER_NODE = 100


def resolve(document: Document, report: Report) -> Gateway:
    """Build the gateway; what it cannot be is in the report, and then the gateway is of no use."""
    named = document.service or document.guard or document.forwarding or document.multihome
    if not named and not any(
        report.broken((key,)) for key in ("service", "guard", "forwarding", "multihome")
    ):
        report.error((), *missing_table(("service",)))
    placed = [_service(("service", index), table, report) for index, table in enumerate(document.service)]
    _once(((one.path, one.service.name) for one in placed), "the service", report)
    check_across(placed, report)
    check_sources(placed, report)
    found_guards = guards(document, report)
    check_guards(found_guards, document, placed, report)
    _once(((("guard", index), table.name) for index, table in enumerate(document.guard)), "the guard", report)
    found_multihomes = multihomes(document, report)
    _once(
        ((("multihome", index), table.name) for index, table in enumerate(document.multihome)),
        "the server",
        report,
    )
    gateway = Gateway(
        name=document.gateway.name,
        services=tuple(one.service for one in placed),
        hash_seed=_hash_seed(document, report),
        dataplane=DataPlaneChoice(document.gateway.dataplane),
        interfaces=tuple(document.gateway.interfaces),
        flow_memory=document.gateway.flow_memory,
        guards=found_guards,
        forwarding=forwarding(document, report),
        multihomes=found_multihomes,
        api=api(document, report),
    )
    _carried(gateway, report)
    return gateway


def _carried(gateway: Gateway, report: Report) -> None:
    """Report what the chosen data plane does not carry, or none does."""
    asked = gateway.dataplane
    planes = PLANES if asked is DataPlaneChoice.AUTO else (asked,)
    found = {plane: list(lacks(gateway, plane)) for plane in PLANES}
    for lack in found[planes[0]]:
        where: Path = ("service", lack.index, *lack.key.split("."))
        carriers = [plane for plane in PLANES if lack not in found[plane]]
        if report.broken(where) or any(plane in carriers for plane in planes):
            continue
        if carriers:
            way_out = f'dataplane = "{carriers[0]}" or "auto"'
            report.error(where, f'{lack.what} is not carried by dataplane "{asked}" in this version', way_out)
        else:
            report.error(where, f"{lack.what} is not available in this version", "leave it out")
    if asked is DataPlaneChoice.AUTO and all(found.values()) and not report.problems:
        first, second = (found[plane][0] for plane in PLANES)
        where = ("service", first.index, *first.key.split("."))
        report.error(
            where,
            f"{first} ({first.what} takes {XDP}), and {second}, which takes {NFTABLES}",
            "two gateways, one for each data plane",
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
    _ports_of_ranges(listeners, nodes, report)
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
        affinity=affinity_of(table),
        linger=table.linger,
        sources=sources_of(path, table, listeners, report),
        tunnel=tunnel_of(table),
        filter=filter_of((*path, "filter"), table.filter, report),
        slow_start=table.slow_start,
        all_down=AllDown(table.all_down),
        checks=checks_of(path, table, listeners, report),
        require=Require(table.require),
        passive=Passive(table.passive),
    )
    check_combinations(path, table, report)
    return PlacedService(path, service, listeners, nodes)


def _listeners(path: Path, table: ServiceTable, report: Report) -> tuple[PlacedListener, ...]:
    placed = []
    for index, one in enumerate(table.listen):
        where = (*path, "listen", index)
        if report.broken(where):
            continue
        placed += [PlacedListener(where, listener) for listener in _listener(where, one, table, report)]
    if not table.listen and not report.broken((*path, "listen")):
        report.error(
            (*path, "listen"), "listen is empty", "an address with its port for each family that is served"
        )
    return tuple(placed)


def _listener(path: Path, table: ListenerTable, service: ServiceTable, report: Report) -> Iterator[Listener]:
    """The listener, or those of a range of ports, one for each."""
    if table.interface in (".", ".."):  # which the pattern lets pass, and the kernel does not
        report.error((*path, "interface"), f"interface {quoted(table.interface)} is no interface name")
    where = (*path, "address")
    try:
        first, count = listener_range(table.address)
    except AddressError as error:
        report.error(where, f"listen {error.what}", error.allowed)
        return
    if count > 1 and service.protocol == "dtls":
        report.error(where, "a range of ports on a dtls service", 'one port, or protocol = "udp"')
        return
    if table.node_port is not None and table.node_port + count - 1 > 65535:
        report.error(
            (*path, "node_port"),
            f"node_port {table.node_port} has no {count} ports behind it",
            f"at most {65536 - count}",
        )
        return
    for offset in range(count):
        endpoint = Endpoint(first.address, first.port + offset)
        node_port = None if table.node_port is None else table.node_port + offset
        yield Listener(endpoint, table.interface, node_port, offset)


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
    node = Node(name=table.name, addresses=addresses, id=table.id, weight=table.weight, backup=table.backup)
    return PlacedNode(path, node, tuple(own_path for _, own_path in found.values()))


def _timeouts(path: Path, table: ServiceTable, report: Report) -> None:
    where = (*path, "handshake_timeout")
    if "handshake_timeout" in table.model_fields_set and table.protocol != "dtls":
        report.error(
            where,
            f"handshake_timeout on a {table.protocol} service",
            f"leave it out; flow_timeout is for {table.protocol}",
        )


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
    if all(one.node.backup for one in nodes if one.node.weight):
        report.error(path, "every node is a backup", "at least one node without backup = true")
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


def _ports_of_ranges(
    listeners: tuple[PlacedListener, ...], nodes: tuple[PlacedNode, ...], report: Report
) -> None:
    """A node's own port is that of a range's first one: those behind it must be there."""
    longest = max((one.listener.offset for one in listeners), default=0)
    for one in nodes:
        for own, where in zip(one.node.addresses, one.address_paths, strict=True):
            if own.port is not None and own.port + longest > 65535 and not report.broken(where):
                report.error(
                    where,
                    f"address {own.address} with port {own.port} has no {longest + 1} ports behind it",
                    f"at most {65535 - longest}",
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
