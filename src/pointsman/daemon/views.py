"""The daemon's knowledge as the API's documents: a pure function of what was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from pointsman.api import documents as api
from pointsman.daemon.rates import Key
from pointsman.daemon.reconciler import Seen
from pointsman.dataplane.protocol import Count, FlowCount
from pointsman.model import AllDown, Node, NodeState, NodeStates, Service
from pointsman.model.orders import Order, OrderBook, Replacement, Verb

Owners = Mapping[tuple[str, str], api.Counters]


def owners_of(counts: Iterable[Count]) -> dict[tuple[str, str], api.Counters]:
    found: dict[tuple[str, str], dict[str, api.Count]] = defaultdict(dict)
    for count in counts:
        found[count.service, count.subject][str(count.verdict)] = api.Count(
            packets=count.packets, bytes=count.bytes
        )
    return dict(found)


def order_document(order: Order) -> api.Order:
    return api.Order(
        service=order.service,
        node=order.node,
        verb=api.Verb(str(order.verb)),
        who=order.who,
        since=order.since,
        reason=order.reason,
        until=order.until,
    )


def flow_row(count: FlowCount) -> api.FlowRow:
    return api.FlowRow(
        services=list(count.services),
        node=count.node,
        kind=count.kind,
        flows=count.flows,
        leaving=count.leaving,
    )


def services_of(
    seen: Seen,
    book: OrderBook,
    checks: Mapping[tuple[str, str], list[api.CheckResult]],
    rates: Mapping[Key, float],
    flows: Callable[[str, str], int | None],
    signs: Mapping[tuple[str, str], object],
) -> list[api.Service]:
    owners = owners_of(seen.counts)
    by_node: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for (service, subject, verdict), rate in rates.items():
        by_node[service, subject][verdict] = round(rate, 1)
    replaced = {(each.service, each.node): each for each in book.replacements}
    return [
        api.Service(
            name=service.name,
            protocol=service.protocol,
            forward=service.forward,
            scheduler=service.scheduler,
            disabled=service.name in book.services,
            state=service_state(service, seen.inputs.states, checks, disabled=service.name in book.services),
            listeners=[
                api.Listener(
                    address=str(listener.endpoint),
                    counters=owners.get((service.name, str(listener.endpoint)), {}),
                )
                for listener in service.listeners
            ],
            nodes=[
                _node(
                    service,
                    node,
                    seen.inputs.states,
                    book.about(service.name, node.name),
                    replaced.get((service.name, node.name)),
                    checks.get((service.name, node.name), []),
                    owners.get((service.name, node.name), {}),
                    by_node.get((service.name, node.name), {}),
                    flows(service.name, node.name),
                    str(signs.get((service.name, node.name), "")),
                )
                for node in service.nodes
            ],
        )
        for service in seen.inputs.gateway.services
    ]


def guards_of(seen: Seen) -> list[api.Guard]:
    owners = owners_of(seen.counts)
    return [
        api.Guard(
            name=guard.name,
            interfaces=list(guard.interfaces),
            ports=[str(ports) for ports in guard.ports],
            mode=guard.filter.mode,
            counters=owners.get(("", guard.name), {}),
        )
        for guard in seen.inputs.gateway.guards
    ]


def service_state(
    service: Service,
    states: NodeStates,
    checks: Mapping[tuple[str, str], Iterable[api.CheckResult]],
    *,
    disabled: bool,
) -> str:
    """The service in a word; see docs/reference/api.md."""
    if disabled:
        return "disabled"
    up = [
        node for node in service.nodes if states.of(service.name, node.name).takes_new_flows and node.weight
    ]
    if not up:
        return "down"
    failed = [
        node
        for node in up
        if any(each.healthy is False for each in checks.get((service.name, node.name), ()))
    ]
    if service.all_down is AllDown.KEEP and len(failed) == len(up):
        return "kept"
    if all(node.backup for node in up) and not all(node.backup for node in service.nodes):
        return "backup"
    return "up" if len(up) == len([node for node in service.nodes if node.weight]) else "degraded"


def why(state: NodeState, order: Order | None, checks: Iterable[api.CheckResult]) -> str:
    """Where a node's state is from."""
    if order is not None and state in (NodeState.DRAINING, NodeState.DISABLED):
        verb = "drained" if order.verb is Verb.DRAIN else "disabled"
        return f"{verb} by {order.who}{f': {order.reason}' if order.reason else ''}"
    failed = [f"{each.kind} {each.target}: {each.said}" for each in checks if each.healthy is False]
    if state is NodeState.DOWN:
        return "; ".join(failed) or "down before this daemon started"
    if failed:
        return f"kept although {'; '.join(failed)}"
    return ""


def _in_place_of(replaced: Replacement | None) -> str:
    if replaced is None:
        return ""
    about = f": {replaced.reason}" if replaced.reason else ""
    return f"replaced by {replaced.who}{about} (the file says {', '.join(replaced.instead_of)})"


def _node(
    service: Service,
    node: Node,
    states: NodeStates,
    order: Order | None,
    replaced: Replacement | None,
    checks: list[api.CheckResult],
    counters: api.Counters,
    rates: dict[str, float],
    flows: int | None,
    sign: str,
) -> api.Node:
    state = states.of(service.name, node.name)
    return api.Node(
        name=node.name,
        id=node.id,
        state=state,
        why="; ".join(filter(None, (why(state, order, checks), _in_place_of(replaced)))),
        share=states.share(service.name, node.name),
        weight=node.weight,
        backup=node.backup,
        addresses=[str(own.address) for own in node.addresses],
        flows=flows,
        counters=counters,
        rates=rates,
        sign=sign,
        checks=checks,
        order=None if order is None else order_document(order),
    )
