"""Make the machine what the configuration says, and put it back: the thin edge that acts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pointsman.config import Loaded, parse
from pointsman.dataplane.protocol import DataPlane
from pointsman.kernel.errors import KernelError
from pointsman.model import Gateway, NodeState, NodeStates, Protocol, Service
from pointsman.plan.host import CarriedAddress, HostFacts, HostPlan, compile_host, touched
from pointsman.plan.inputs import Leaving, PlaneInputs, Retired
from pointsman.plan.labels import Labels, OutOfLabelsError, allocate, node_key
from pointsman.reconcile import machine
from pointsman.reconcile.state import AppliedState, Departure, Retirement, StateFile, now


@dataclass(frozen=True, slots=True)
class Proposal:
    """What stands, what is wanted and what it takes; nothing is done yet."""

    state: AppliedState
    have: PlaneInputs | None
    want: PlaneInputs
    next_state: AppliedState
    host: HostPlan
    facts: HostFacts


def applied_inputs(state: AppliedState) -> PlaneInputs | None:
    """The inputs of the applied tables, compiled from the kept text."""
    if state.text is None:
        return None
    gateway = parse(state.text, state.filename).gateway
    return PlaneInputs(
        gateway,
        state.states,
        state.labels,
        tuple(departure.leaving for departure in state.departures),
        tuple(retirement.retired for retirement in state.retirements),
        state.capabilities,
    )


def standing(plane: DataPlane, state_file: StateFile) -> tuple[AppliedState, PlaneInputs | None]:
    """The state that the kernel's tables were made from: the last, or the one a killed process was applying.

    Without tables of ours that match either, the inputs are None: all is to be built anew.
    """
    stamp = plane.stamp()
    last, pending = state_file.read()
    for state in (last, pending):
        if state is not None and state.text is not None and state.stamp() == stamp:
            return state, applied_inputs(state)
    return last, None


def propose(plane: DataPlane, state_file: StateFile, loaded: Loaded) -> Proposal:
    """Plan the way from what stands to ``loaded``."""
    state, have = standing(plane, state_file)
    # The same text is the same gateway: what was compiled for the one serves for the other.
    gateway = have.gateway if have is not None and loaded.text == state.text else loaded.gateway
    renewed = replace(state, filename=loaded.filename, text=loaded.text)
    return _proposal(plane, state, have, gateway, renewed)


def propose_states(
    plane: DataPlane, state_file: StateFile, change: Callable[[Gateway, NodeStates], NodeStates]
) -> Proposal:
    """Plan other node states for the configuration that is applied; raise KernelError where none is."""
    state, have = standing(plane, state_file)
    if state.text is None:
        raise KernelError("nothing is applied here; `pointsman apply FILE` first")
    gateway = have.gateway if have is not None else parse(state.text, state.filename).gateway
    return _proposal(plane, state, have, gateway, replace(state, states=change(gateway, state.states)))


def _proposal(
    plane: DataPlane, state: AppliedState, have: PlaneInputs | None, gateway: Gateway, renewed: AppliedState
) -> Proposal:
    """``renewed`` is the state with the text and the node states that are wanted."""
    time = now()
    departures = _departures(state, have, gateway, time) if have is not None else ()
    retirements = _retirements(state, have, gateway, time) if have is not None else ()
    labels = _labels(gateway, have, departures, state.labels if have is not None else Labels(), time)
    departures = tuple(
        replace(departure, leaving=replace(departure.leaving, seconds=math.ceil(departure.until - time)))
        for departure in departures
    )
    known = _known(gateway, renewed.states)
    capabilities = have.capabilities if have is not None else plane.capabilities()
    leaving, retired = (item.leaving for item in departures), (item.retired for item in retirements)
    want = PlaneInputs(gateway, known, labels, tuple(leaving), tuple(retired), capabilities)
    facts = machine.read_facts()
    host = compile_host(gateway, facts, state.addresses)
    next_state = replace(
        renewed,
        states=known,
        labels=labels,
        departures=departures,
        retirements=retirements,
        capabilities=capabilities,
        settings={**touched(host, facts), **state.settings},
        addresses=host.addresses,
    )
    return Proposal(state, have, want, next_state, host, facts)


def carry_out(plane: DataPlane, state_file: StateFile, proposal: Proposal) -> None:
    """Do it: settings, then tables in one step, then addresses. What fails is undone; raise KernelError.

    Each step is written down before it is taken, so that a killed process leaves nothing that ``down``, or the
    next ``apply``, does not know of.
    """
    before, after = proposal.state, proposal.next_state
    new = [own for own in after.addresses if own not in before.addresses]
    old = [own for own in before.addresses if own not in after.addresses]
    journal = replace(before, settings=after.settings, addresses=(*before.addresses, *new))
    state_file.write(journal, pending=replace(after, addresses=journal.addresses))
    try:
        machine.write_settings(proposal.host.settings)
        plane.apply(proposal.have, proposal.want, after.stamp())
        try:
            _carry_missing(after.addresses)
        except KernelError:
            _undo_tables(plane, proposal)
            raise
    except KernelError:
        if proposal.host.settings:
            machine.restore_settings(proposal.facts.sysctls)
        if before == AppliedState():
            state_file.remove()
        else:
            state_file.write(before)
        raise
    machine.drop(old)
    try:
        state_file.write(after)
    except KernelError as problem:
        # The journal knows all of it, and the stamp tells that it was carried out.
        raise KernelError(f"applied, but {problem}; make room, then apply again") from None


def _carry_missing(wanted: Iterable[CarriedAddress]) -> None:
    """Addresses of ours that somebody took away come back as well."""
    machine.carry(machine.missing(wanted))


def _undo_tables(plane: DataPlane, proposal: Proposal) -> None:
    if proposal.have is None:
        plane.remove()
    else:
        plane.apply(proposal.want, proposal.have, proposal.state.stamp())


def take_down(plane: DataPlane, state_file: StateFile) -> None:
    """Leave the machine as it was found: no table, no addresses, settings as they were."""
    last, pending = state_file.read()
    plane.remove()
    machine.drop({own for state in (last, pending) if state for own in state.addresses})
    machine.restore_settings(last.settings)
    state_file.remove()


def _known(gateway: Gateway, states: NodeStates) -> NodeStates:
    """Orders for nodes that the configuration still has."""
    return NodeStates(
        {
            (service, node): state
            for (service, node), state in states.exceptions.items()
            if (found := gateway.service(service)) is not None and found.node(node) is not None
        }
    )


def _departures(
    state: AppliedState, have: PlaneInputs, gateway: Gateway, time: float
) -> tuple[Departure, ...]:
    """Nodes that were removed now or lately, as long as a handshake on them may be under way."""
    lately = [departure for departure in state.departures if departure.until > time]
    lately += [
        Departure(
            Leaving(old.name, node, have.labels.of(node), old.handshake_timeout), time + old.handshake_timeout
        )
        for old in have.gateway.services
        if old.protocol is Protocol.DTLS
        for node in old.nodes
        if have.states.of(old.name, node.name) in (NodeState.UP, NodeState.DRAINING)
    ]
    return tuple(
        departure
        for departure in lately
        if (service := gateway.service(departure.leaving.service)) is not None
        and not _has(service, departure.leaving)
    )


def _has(service: Service, leaving: Leaving) -> bool:
    return any(node_key(node) == node_key(leaving.node) for node in service.nodes)


def _retirements(
    state: AppliedState, have: PlaneInputs, gateway: Gateway, time: float
) -> tuple[Retirement, ...]:
    """Labels that flows of a service may hold although their nodes are not, or no more, that service's."""
    lately = {item.retired: item.until for item in state.retirements if item.until > time}
    lately |= {
        Retired(old.name, have.labels.of(node)): time + _memory(old)
        for old in have.gateway.services
        for node in old.nodes
    }
    own = {
        Retired(service.name, have.labels.by_node[key])
        for service in gateway.services
        for node in service.nodes
        if (key := node_key(node)) in have.labels.by_node
    }
    return tuple(
        Retirement(retired, until)
        for retired, until in lately.items()
        if retired not in own and gateway.service(retired.service) is not None
    )


def _memory(service: Service) -> int:
    """How long a flow of the service that is not refreshed is remembered, in seconds."""
    return max(service.flow_timeout, service.handshake_timeout)


def _labels(
    gateway: Gateway,
    have: PlaneInputs | None,
    departures: Iterable[Departure],
    previous: Labels,
    time: float,
) -> Labels:
    nodes = [node for service in gateway.services for node in service.nodes]
    nodes += [departure.leaving.node for departure in departures]
    services = [*gateway.services, *(have.gateway.services if have is not None else ())]
    rest = max(_memory(service) for service in services)
    try:
        return allocate(nodes, previous, now=time, rest=rest)
    except OutOfLabelsError as problem:
        raise KernelError(f"the nftables data plane cannot tell so many nodes apart: {problem}") from None
