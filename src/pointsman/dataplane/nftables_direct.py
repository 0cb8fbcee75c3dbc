"""The counters of the tables of services whose nodes answer by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from pointsman.dataplane.protocol import Count
from pointsman.model import ConnectionIdRange, Family, Service
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.nftables.direct import COUNTED, TABLES, direct_services, transports_of, used
from pointsman.plan.nftables.expressions import CidBits
from pointsman.plan.nftables.names import (
    family_name,
    listener_name,
    node_verdict_set,
    transport_of,
    verdict_set,
)
from pointsman.plan.verdicts import GUARDED, OF_NODES, Verdict

Row = tuple[Any, dict[str, int]]


class Elements(Protocol):
    """Read the keys and counters of a set or map of a table."""

    def __call__(self, kind: str, name: str, table: str) -> list[Row]: ...


def direct_counts(elements: Elements, inputs: PlaneInputs) -> list[Count]:
    """All of them, or none where no service is passed by."""
    found: list[Count] = []
    for family in Family:
        services = direct_services(inputs, family)
        for transport in transports_of(services):
            of_wire = [service for service in services if transport_of(service) == transport]
            found += _by_node(elements, inputs, of_wire, family, transport)
            found += _by_listener(elements, of_wire, family, transport)
        if services:
            counters = [counter for _, counter in elements("set", Verdict.FLOW_TABLE_FULL, TABLES[family])]
            found += [_count("", "", Verdict.FLOW_TABLE_FULL, counter) for counter in counters]
        for service in services:
            if service.connection_id is not None:
                found += _by_cid(elements, service, service.connection_id, family)
            found += _over_budgets(elements, service, family)
    return found


def _count(service: str, subject: str, verdict: Verdict, counter: dict[str, int]) -> Count:
    return Count(service, subject, verdict, counter["packets"], counter["bytes"])


def _by_node(
    elements: Elements, inputs: PlaneInputs, services: Iterable[Service], family: Family, transport: str
) -> Iterator[Count]:
    """The counters that are kept by listener and label."""
    owners = {
        (str(listener.endpoint.address), listener.endpoint.port, inputs.labels.of(node)): (
            service.name,
            node.name,
        )
        for service in services
        for listener in service.listeners_of(family)
        for node in service.nodes
    }
    for verdict in (Verdict.FLOW, Verdict.BALANCED):
        for key, counter in elements("set", used(verdict, family, transport), TABLES[family]):
            address, port, label = key["concat"]
            owner = owners.get((address, port, number(label)))
            if owner is not None:
                yield _count(*owner, verdict, counter)


def number(value: int | str) -> int:
    """A raw payload's value, which nft lists as a number or in hexadecimal digits."""
    return int(value, 0) if isinstance(value, str) else value


def _by_listener(
    elements: Elements, services: Iterable[Service], family: Family, transport: str
) -> Iterator[Count]:
    owners = {
        (str(listener.endpoint.address), listener.endpoint.port): (service.name, str(listener.endpoint))
        for service in services
        for listener in service.listeners_of(family)
    }
    filtered = any(service.filter is not None for service in services)
    for verdict in (*COUNTED, *(GUARDED if filtered else ())):
        for key, counter in elements("set", verdict_set(verdict, family, transport), TABLES[family]):
            owner = owners.get(tuple(key["concat"]))
            if owner is not None:
                yield _count(*owner, verdict, counter)


def _over_budgets(elements: Elements, service: Service, family: Family) -> Iterator[Count]:
    """What was more than the filter lets a node have."""
    own = service.filter
    if own is None:
        return
    kept = zip(OF_NODES, (own.hello.per_node, own.cid.per_node), strict=True)
    for verdict, budget in kept:
        for listener in service.listeners_of(family) if budget else ():
            name = node_verdict_set(listener_name(service, listener.endpoint), verdict)
            for _, counter in elements("set", name, TABLES[family]):
                yield _count(service.name, str(listener.endpoint), verdict, counter)


def _by_cid(
    elements: Elements, service: Service, where: ConnectionIdRange, family: Family
) -> Iterator[Count]:
    bits = CidBits(where)
    names = {int(bits.element(node.id), 16): node.name for node in service.nodes if node.id is not None}
    for key, counter in elements("map", f"{family_name(service, family)}/cid", TABLES[family]):
        if number(key) in names:
            yield _count(service.name, names[number(key)], Verdict.CID, counter)
