"""Say in words what a change of inputs means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pointsman.model import Gateway, Node, NodeState, NodeStates, Protocol, Service
from pointsman.plan.host import ALL_V4, ALL_V6, CarriedAddress, HostFacts, HostPlan
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.ranges import in_ranges


def describe(
    have: PlaneInputs | None,
    want: PlaneInputs,
    host: HostPlan,
    *,
    facts: HostFacts,
    carried: tuple[CarriedAddress, ...],
) -> list[str]:
    """One line for each thing that would change, [] where nothing would.

    ``facts`` say how the machine is, ``carried`` are the addresses that Pointsman carries already.
    """
    lines = [
        f"setting {_dotted(key)}: {facts.sysctls.get(key, '?')} -> {value}{_consequence(key)}"
        for key, value in host.settings
    ]
    lines += [
        f"address {own.address}: carried on {own.interface}"
        for own in host.addresses
        if own not in carried or own.address not in facts.addresses
    ]
    lines += [
        f"address {own.address}: removed from {own.interface}" for own in carried if own not in host.addresses
    ]
    return [*lines, *_services(have, want), *_guards(have, want)]


def _dotted(key: str) -> str:
    return ".".join(PurePosixPath(key).parts)


def _consequence(key: str) -> str:
    if key in (ALL_V4, ALL_V6):
        return " (from then on the machine forwards between all its interfaces)"
    if key.endswith("/accept_ra"):
        return " (keeps default routes of router advertisements while forwarding)"
    return ""


def _services(have: PlaneInputs | None, want: PlaneInputs) -> Iterator[str]:
    before = have.gateway if have is not None else Gateway("", (), 0)
    states = have.states if have is not None else NodeStates()
    if have is not None and before.hash_seed != want.gateway.hash_seed:
        yield "hash seed: changed; clients without a remembered flow move"
    for service in want.gateway.services:
        old = before.service(service.name)
        if old is None:
            yield _new_service(service, want.states)
        else:
            yield from _changes(old, service, states, want.states)
    for old in before.services:
        if want.gateway.service(old.name) is None:
            yield f"service {old.name}: removed"


def _guards(have: PlaneInputs | None, want: PlaneInputs) -> Iterator[str]:
    before = {guard.name: guard for guard in have.gateway.guards} if have is not None else {}
    after = {guard.name: guard for guard in want.gateway.guards}
    for name, guard in after.items():
        if name not in before:
            yield f"guard {name}: new; {guard.place} ({guard.filter.mode})"
        elif before[name] != guard:
            yield f"guard {name}: changed; {guard.place} ({guard.filter.mode})"
    for name in before:
        if name not in after:
            yield f"guard {name}: removed"


def _listeners(service: Service) -> str:
    return ", ".join(in_ranges(listener.endpoint for listener in service.listeners))


def _new_service(service: Service, states: NodeStates) -> str:
    nodes = ", ".join(_with_state(node, states.of(service.name, node.name)) for node in service.nodes)
    by = "connection ID" if service.connection_id is not None else "flow"
    return f"service {service.name}: new; {service.protocol} on {_listeners(service)} by {by} to {nodes}"


def _with_state(node: Node, state: NodeState) -> str:
    return node.name if state is NodeState.UP else f"{node.name} ({state})"


def _changes(old: Service, new: Service, was: NodeStates, now: NodeStates) -> Iterator[str]:
    label = f"service {new.name}"
    known_listeners = set(old.listeners)
    for text in in_ranges(each.endpoint for each in new.listeners if each not in known_listeners):
        yield f"{label}: listener {text} new or changed"
    gone = {listener.endpoint for listener in old.listeners} - {
        listener.endpoint for listener in new.listeners
    }
    for text in in_ranges(sorted(gone)):
        yield f"{label}: listener {text} removed"
    for node in new.nodes:
        known = old.node(node.name)
        if known is None:
            yield f"{label}, node {node.name}: new"
        elif known != node:
            yield f"{label}, node {node.name}: changed"
    for node in old.nodes:
        if new.node(node.name) is None:
            state = was.of(old.name, node.name)
            finishing = old.protocol is Protocol.DTLS and state.takes_named_packets
            rest = " (handshakes under way are finished on it)" if finishing else ""
            if old.linger and state.takes_named_packets:
                rest = f" (its flows are followed for {old.linger} s)"
            yield f"{label}, node {node.name}: removed{rest}"
    for node in new.nodes:
        before, after = was.of(new.name, node.name), now.of(new.name, node.name)
        if before is not after:
            yield f"{label}, node {node.name}: {before} -> {after}"
        share = now.share(new.name, node.name)
        if share != was.share(new.name, node.name):
            yield f"{label}, node {node.name}: takes {share} % of its weight"
    fields = (
        "protocol forward scheduler connection_id cid_unknown cid_node_down handshake_timeout flow_timeout "
        "maglev_table_size flow_table_size affinity linger sources tunnel filter slow_start all_down checks require"
    )
    for name in fields.split():
        if getattr(old, name) != getattr(new, name):
            yield f"{label}: {name} changed"
