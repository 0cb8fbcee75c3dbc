"""Turn filters and guards of the document into those of the model."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.config.addresses import AddressError
from pointsman.config.document import Document
from pointsman.config.filter_tables import BudgetsTable, CidBudgetsTable, FilterTable, GuardTable
from pointsman.config.lines import Path
from pointsman.config.placed import PlacedService
from pointsman.config.prefixes import port_range, port_ranges, prefixes
from pointsman.config.report import Report
from pointsman.config.wording import quoted
from pointsman.model import Budgets, Filter, FilterLevel, FilterMode, Guard, PortRange, Protocol

REFLECTORS = (
    17,
    19,
    53,
    69,
    111,
    123,
    137,
    161,
    389,
    520,
    1434,
    1900,
    3283,
    3478,
    3702,
    5353,
    5683,
    10001,
    11211,
    27015,
)
"""Source ports of reflected floods (CISA alert TA14-017A, and CoAP's, STUN's and Ubiquiti's)."""


def filter_of(path: Path, table: FilterTable | None, report: Report) -> Filter | None:
    """The filter at the path; what is wrong with it is reported."""
    if table is None or report.broken(path):
        return None
    return Filter(
        level=FilterLevel(table.level),
        mode=FilterMode(table.mode),
        dtls13=table.dtls13,
        source_ports=_source_ports((*path, "drop_source_ports"), table.drop_source_ports, report),
        allow=prefixes((*path, "allow"), table.allow, report),
        deny=prefixes((*path, "deny"), table.deny, report),
        prefix4=table.prefix4,
        prefix6=table.prefix6,
        hello=_budgets(table.hello),
        cid=_budgets(table.cid),
        amplification=table.amplification,
    )


def _source_ports(path: Path, values: list[int | str], report: Report) -> tuple[int, ...]:
    ports: set[int] = set()
    for index, value in enumerate(values):
        if value == "reflectors":
            ports.update(REFLECTORS)
            continue
        try:
            found = port_range(value)
        except AddressError as error:
            report.error((*path, index), f"{path[-1]} {error.what}", f'{error.allowed}; or "reflectors"')
            continue
        ports.update(range(found.first, found.last + 1))
    return tuple(sorted(ports))


def _budgets(table: BudgetsTable | CidBudgetsTable | None) -> Budgets:
    if table is None:
        return Budgets()
    total = table.total if isinstance(table, BudgetsTable) else 0
    return Budgets(table.per_prefix, total, table.per_node, table.burst)


def guards(document: Document, report: Report) -> tuple[Guard, ...]:
    """The guards; two of them for one interface and port are a mistake."""
    placed: list[tuple[Path, Guard]] = []
    for index, table in enumerate(document.guard):
        path: Path = ("guard", index)
        guard = _guard(path, table, report)
        if guard is not None:
            _alone(path, guard, placed, report)
            placed.append((path, guard))
    return tuple(guard for _, guard in placed)


def _alone(path: Path, guard: Guard, others: list[tuple[Path, Guard]], report: Report) -> None:
    """Report what another guard has already."""
    for other_path, other in others:
        shared = [name for name in guard.interfaces if name in other.interfaces]
        port = _common(guard.ports, other.ports)
        if shared and port is not None:
            report.error(
                (*path, "ports"),
                f"port {port} on {shared[0]} is guard {other.name}'s already, on line {report.line(other_path)}",
                "each interface and port in one guard",
            )


def _common(ports: tuple[PortRange, ...], others: tuple[PortRange, ...]) -> int | None:
    """The lowest port that is in both."""
    found = [
        max(one.first, other.first)
        for one in ports
        for other in others
        if one.first <= other.last and other.first <= one.last
    ]
    return min(found, default=None)


def check_guards(
    found: Sequence[Guard], document: Document, services: Sequence[PlacedService], report: Report
) -> None:
    """Report ports that would be a guard's and a service's: packets to a listener are not this machine's."""
    by_name = {table.name: ("guard", index) for index, table in enumerate(document.guard)}
    for guard in found:
        for service in services:
            for one in service.listeners:
                port, interface = one.listener.endpoint.port, one.listener.interface
                at = (PortRange(port, port),)
                if (
                    service.service.protocol is Protocol.TCP
                    or _common(guard.ports, at) is None
                    or (interface is not None and interface not in guard.interfaces)
                ):
                    continue
                whose = f"service {service.service.name}, on line {report.line(one.path)}"
                report.error(
                    (*by_name[guard.name], "ports"),
                    f"port {port} is also that of {whose}: what is sent to {one.listener.endpoint} is its nodes', "
                    "not a server's on this machine",
                    "[service.filter] for that service; a guard for other ports, or for other interfaces than "
                    "those that the listener names",
                )
                break


def _guard(path: Path, table: GuardTable, report: Report) -> Guard | None:
    if report.broken(path):
        return None
    names = table.interface
    ports = tuple(port_ranges((*path, "ports"), table.ports, report))
    for key, values in (("interface", names), ("ports", table.ports)):
        if not values and not report.broken((*path, key)):
            report.error((*path, key), f"{key} is empty", "at least one")
    for index, name in enumerate(names):
        if name in (".", ".."):  # which the pattern lets pass, and the kernel does not
            report.error((*path, "interface", index), f"interface {quoted(name)} is no interface name")
    own = filter_of((*path, "filter"), table.filter, report)
    if own is not None:
        _without_nodes((*path, "filter"), own, report)
    return Guard(table.name, tuple(dict.fromkeys(names)), ports, own) if own is not None else None


def _without_nodes(path: Path, own: Filter, report: Report) -> None:
    """Report what has a meaning on a service only."""
    for key, budgets in (("hello", own.hello), ("cid", own.cid)):
        where = (*path, key, "per_node")
        if budgets.per_node and not report.broken(where):
            report.error(where, "per_node on a guard, which has no nodes", "per_prefix, or total")
    if own.amplification and not report.broken((*path, "amplification")):
        report.error(
            (*path, "amplification"),
            "amplification on a guard: the server's answers do not pass it",
            "leave it out; it is for services",
        )
