"""Make the machine what the configuration says, and put it back: the thin edge that acts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pointsman.config import ConfigError, Loaded, Problem, parse
from pointsman.dataplane.protocol import DataPlane
from pointsman.dataplane.sides import Wanted
from pointsman.kernel.errors import KernelError
from pointsman.model import Gateway, NodeState, NodeStates, Protocol, Service
from pointsman.plan.choice import Choice, Interfaces
from pointsman.plan.host import CarriedAddress, HostFacts, HostPlan, compile_host, touched
from pointsman.plan.inputs import Leaving, PlaneInputs, Retired
from pointsman.plan.labels import Labels, OutOfLabelsError, allocate, node_key
from pointsman.plan.replaced import ReplacementError, Replacements, in_force, with_replacements
from pointsman.reconcile import machine
from pointsman.reconcile.planes import Planes
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
    tables: PlaneInputs | None
    """What stands on the plane that is wanted: ``have``, unless the plane changes, or it is not known for sure."""
    beside: tuple[str, ...]
    """What changes beside the data plane, in words."""
    interrupted: PlaneInputs | None = None
    """What stood before ``have``, where the change to that was left halfway."""

    @property
    def standing_sides(self) -> Wanted | None:
        return Wanted(self.have, self.state.dataplane) if self.have is not None else None

    @property
    def wanted_sides(self) -> Wanted:
        return Wanted(self.want, self.next_state.dataplane)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a daemon knows better than the last state: node states, and machines in the place of others.

    ``distrust``: others have changed the tables, whatever their stamp says; they are made anew.
    """

    states: NodeStates
    replacements: Replacements = field(default_factory=dict)
    distrust: bool = False


def meaning(text: str, filename: str, replacements: Replacements) -> Gateway:
    """What the text means with other machines in the place of nodes; raise ConfigError, ReplacementError.

    Equal arguments give the same gateway, for which compiled tables are remembered.
    """
    return _meaning(text, filename, tuple((key, tuple(own)) for key, own in sorted(replacements.items())))


@lru_cache(maxsize=4)
def _meaning(
    text: str, filename: str, replacements: tuple[tuple[tuple[str, str], tuple[str, ...]], ...]
) -> Gateway:
    return with_replacements(parse(text, filename).gateway, dict(replacements))


def applied_inputs(state: AppliedState) -> PlaneInputs | None:
    """The inputs of the applied tables, compiled from the kept text."""
    if state.text is None:
        return None
    return PlaneInputs(
        _gateway_of(state, state.text),
        state.states,
        state.labels,
        tuple(departure.leaving for departure in state.departures),
        tuple(retirement.retired for retirement in state.retirements),
        state.capabilities,
        state.interfaces,
        state.clients_only,
    )


def standing(planes: Planes, state_file: StateFile) -> tuple[AppliedState, PlaneInputs | None]:
    """The state that the kernel's tables were made from: the last, or the one a killed process was applying.

    Without tables of ours that match either, the inputs are None: all is to be built anew.
    """
    last, pending = state_file.read()
    for state in (last, pending):
        if state is None or state.text is None:
            continue
        if state.stamp() == planes.of(state.dataplane).stamp():
            return state, applied_inputs(state)
    return last, None


def propose(
    planes: Planes,
    state_file: StateFile,
    loaded: Loaded,
    choice: Choice,
    interfaces: Interfaces,
    wish: Wish | None = None,
) -> Proposal:
    """Plan the way from what stands to ``loaded`` on the plane of choice, which is between ``interfaces``.

    Without a wish, node states and replacements stay as they are.
    """
    state, have = standing(planes, state_file)
    if wish is None:
        wish = Wish(state.states, _still_in_force(state, loaded))
    try:
        if have is not None and (loaded.text, wish.replacements) == (state.text, state.replacements):
            gateway = have.gateway  # what was compiled for the one serves for the other
        elif not wish.replacements:
            gateway = loaded.gateway
        else:
            gateway = meaning(loaded.text, loaded.filename, wish.replacements)
    except ReplacementError as problem:
        line = loaded.line_of(problem.service, problem.node)
        where = f"service {problem.service}, node {problem.node}"
        what = f"{problem.what}, as it has been replaced"
        raise ConfigError(loaded.filename, [Problem(line, where, what, problem.allowed)]) from None
    renewed = replace(
        state,
        filename=loaded.filename,
        text=loaded.text,
        states=wish.states,
        replacements={key: tuple(texts) for key, texts in wish.replacements.items()},
        dataplane=choice.plane,
        dataplane_reason=choice.reason,
        interfaces=interfaces.names,
        clients_only=interfaces.clients,
    )
    return _proposal(planes, state_file, state, have, gateway, renewed, distrust=wish.distrust)


def _gateway_of(state: AppliedState, text: str) -> Gateway:
    return meaning(text, state.filename, state.replacements)


def _still_in_force(state: AppliedState, loaded: Loaded) -> Replacements:
    """Which of the nodes that have been replaced the file leaves so."""
    if state.text is None or not state.replacements:
        return {}
    return in_force(state.replacements, parse(state.text, state.filename).gateway, loaded.gateway)


def propose_states(
    planes: Planes, state_file: StateFile, change: Callable[[Gateway, NodeStates], NodeStates]
) -> Proposal:
    """Plan other node states for the configuration that is applied; raise KernelError where none is."""
    state, have = standing(planes, state_file)
    if state.text is None:
        raise KernelError("nothing is applied here; `pointsman apply FILE` first")
    gateway = _gateway_of(state, state.text)
    # An order is not kept waiting by an interface that is gone.
    present = machine.present(state.interfaces)
    renewed = replace(state, states=change(gateway, state.states), interfaces=present)
    return _proposal(planes, state_file, state, have, gateway, renewed)


def _proposal(
    planes: Planes,
    state_file: StateFile,
    state: AppliedState,
    have: PlaneInputs | None,
    gateway: Gateway,
    renewed: AppliedState,
    *,
    distrust: bool = False,
) -> Proposal:
    """``renewed`` is the state with the text and the node states that are wanted."""
    time = now()
    departures = _departures(state, have, gateway, time) if have is not None else ()
    retirements = _retirements(state, have, gateway, time) if have is not None else ()
    # Also where the tables are another version's, or gone: flows may be kept that hold them.
    labels = _labels(gateway, have, departures, state.labels, time)
    departures = tuple(
        replace(departure, leaving=replace(departure.leaving, seconds=math.ceil(departure.until - time)))
        for departure in departures
    )
    known = _known(gateway, renewed.states)
    same_plane = have is not None and state.dataplane == renewed.dataplane
    capabilities = (
        have.capabilities if have is not None and same_plane else planes.of(renewed.dataplane).capabilities()
    )
    leaving, retired = (item.leaving for item in departures), (item.retired for item in retirements)
    want = PlaneInputs(
        gateway,
        known,
        labels,
        tuple(leaving),
        tuple(retired),
        capabilities,
        renewed.interfaces,
        renewed.clients_only,
    )
    uplinks = [own.interface for server in gateway.multihomes for own in server.uplinks]
    facts = machine.read_facts(uplinks)
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
    interrupted = None
    if have is not None and planes.of(state.dataplane).left_halfway():
        last, _ = state_file.read()
        interrupted = applied_inputs(last) or have
    tables = have if same_plane and not distrust else None
    wanted = Wanted(want, renewed.dataplane)
    beside = tuple(line for side in planes.sides for line in side.changes(wanted))
    return Proposal(state, have, want, next_state, host, facts, tables, beside, interrupted)


def carry_out(planes: Planes, state_file: StateFile, proposal: Proposal) -> None:
    """Do it: settings, then tables in one step, then addresses. What fails is undone; raise KernelError.

    Each step is written down before it is taken, so that a killed process leaves nothing that ``down``, or the
    next ``apply``, does not know of. Other states of nodes leave nothing but tables, and wait for no disk.
    """
    before, after = proposal.state, proposal.next_state
    plane = planes.of(after.dataplane)
    if proposal.interrupted is not None:
        proposal = _finished(planes, proposal)
    new = [own for own in after.addresses if own not in before.addresses]
    old = [own for own in before.addresses if own not in after.addresses]
    journal = replace(before, settings=after.settings, addresses=(*before.addresses, *new))
    needed = (before.text, before.settings, before.addresses) != (after.text, after.settings, after.addresses)
    state_file.write(journal, pending=replace(after, addresses=journal.addresses), needed=needed)
    try:
        # First, as a policy has to be there before the machine starts to forward.
        for side in planes.sides:
            side.apply(proposal.standing_sides, proposal.wanted_sides)
        machine.write_settings(proposal.host.settings)
        plane.apply(proposal.tables, proposal.want, after.stamp())
        try:
            _carry_missing(after.addresses)
        except (KernelError, OSError):
            _undo_tables(plane, proposal)
            raise
    except (KernelError, OSError):
        if proposal.host.settings:
            machine.restore_settings(proposal.facts.sysctls)
        _undo_sides(planes, proposal)
        if before == AppliedState():
            state_file.remove()
        else:
            state_file.write(before, needed=needed)
        raise
    machine.drop(old)
    # Only now, so that one of the planes had every packet.
    for other in planes.every:
        if other is not plane:
            other.remove()
    for side in planes.sides:
        side.settle(proposal.wanted_sides)
    if plane.left_halfway():
        return  # the journal says from what to what
    try:
        state_file.write(after, needed=False)
    except KernelError as problem:
        # The journal knows all of it, and the stamp tells that it was carried out.
        raise KernelError(f"applied, but {problem}; make room, then apply again") from None


def _finished(planes: Planes, proposal: Proposal) -> Proposal:
    """Carry the change before this one to its end; where that is refused, its tables are made anew."""
    if proposal.interrupted is None or proposal.have is None:
        return proposal
    try:
        planes.of(proposal.state.dataplane).finish(
            proposal.interrupted, proposal.have, proposal.state.stamp()
        )
    except KernelError:
        return replace(proposal, tables=None)
    return proposal


def _carry_missing(wanted: Iterable[CarriedAddress]) -> None:
    """Addresses of ours that somebody took away come back as well."""
    machine.carry(machine.missing(wanted))


def _undo_tables(plane: DataPlane, proposal: Proposal) -> None:
    if proposal.tables is None:
        # Where another version's stood before, the new tables are better than none; where the other plane's stand,
        # they carry the packets.
        changes_plane = (
            proposal.have is not None and proposal.state.dataplane != proposal.next_state.dataplane
        )
        if proposal.state == AppliedState() or changes_plane:
            plane.remove()
    else:
        plane.apply(proposal.want, proposal.tables, proposal.state.stamp())


def _undo_sides(planes: Planes, proposal: Proposal) -> None:
    """Put them back as they were; what cannot be, the next ``apply`` mends. The first error is the one to tell."""
    for side in planes.sides:
        with suppress(KernelError):
            if proposal.standing_sides is not None:
                side.settle(proposal.standing_sides)
            elif proposal.state == AppliedState():
                side.remove()


def take_down(planes: Planes, state_file: StateFile) -> None:
    """Leave the machine as it was found: no table, no addresses, settings as they were."""
    last, pending = state_file.read()
    for plane in planes.every:
        plane.remove()
    machine.drop({own for state in (last, pending) if state for own in state.addresses})
    machine.restore_settings(last.settings)
    # Last, as a policy has to be there until the machine forwards no more.
    for side in planes.sides:
        side.remove()
    state_file.remove()


def _known(gateway: Gateway, states: NodeStates) -> NodeStates:
    """Orders for nodes, and shares of nodes, that the configuration still has."""

    def has(service: str, node: str) -> bool:
        return (found := gateway.service(service)) is not None and found.node(node) is not None

    return NodeStates(
        {key: state for key, state in states.exceptions.items() if has(*key)},
        {key: share for key, share in states.shares.items() if has(*key)},
    )


def _departures(
    state: AppliedState, have: PlaneInputs, gateway: Gateway, time: float
) -> tuple[Departure, ...]:
    """Nodes that were removed now or lately, as long as a handshake on them may be under way."""
    lately = [departure for departure in state.departures if departure.until > time]
    lately += [
        Departure(Leaving(old.name, node, have.labels.of(node), _linger(old)), time + _linger(old))
        for old in have.gateway.services
        if _linger(old)
        for node in old.nodes
        if have.states.of(old.name, node.name) in (NodeState.UP, NodeState.DRAINING)
    ]
    return tuple(
        departure
        for departure in lately
        if (service := gateway.service(departure.leaving.service)) is not None
        and not _has(service, departure.leaving)
    )


def _linger(service: Service) -> int:
    """How long a node that is removed from the service is still followed, in seconds."""
    return service.handshake_timeout if service.protocol is Protocol.DTLS else service.linger


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
    """How long a flow of the service's may hold a removed node's label, in seconds.

    It is refreshed while the service lingers, and not any more then.
    """
    return max(service.flow_timeout + service.linger, service.handshake_timeout)


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
    rest = max((_memory(service) for service in services), default=0)
    try:
        return allocate(nodes, previous, now=time, rest=rest)
    except OutOfLabelsError as problem:
        raise KernelError(f"the data planes cannot tell so many nodes apart: {problem}") from None
