"""Everything that the daemon does to the kernel and to files: plain calls, one at a time, on a thread of their own.

Each call opens what it needs and closes it again, so that it takes over whatever it finds, as a command does: a
daemon holds nothing in the kernel that would end with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from pointsman.config import Loaded
from pointsman.daemon.wanted import Key
from pointsman.dataplane.protocol import Count, FlowCount
from pointsman.dataplane.sides import Wanted
from pointsman.dataplane.xdp_ports import Attached
from pointsman.dataplane.xdp_samples import Named
from pointsman.kernel.watch import Watch
from pointsman.model import Gateway, NodeStates
from pointsman.model.abilities import XDP
from pointsman.model.orders import OrderBook
from pointsman.plan.identity import forget_beyond
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.replaced import Replacements
from pointsman.reconcile import machine
from pointsman.reconcile.apply import (
    Proposal,
    Wish,
    carry_out,
    propose_states,
    standing,
)
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import described, prepare
from pointsman.reconcile.state import AppliedState, StateFile
from pointsman.reconcile.store import Kept, Store, Trial


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was changed, in words, and what is in force now.

    ``damage`` is what others had done; ``unwritten`` is why the state is in memory alone, "" where it is not.
    """

    changes: list[str]
    findings: list[str]
    state: AppliedState
    damage: list[str]
    unwritten: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel says of the applied configuration."""

    state: AppliedState
    inputs: PlaneInputs
    counts: list[Count]
    attached: list[Attached]
    beside: dict[str, list[str]]


class Reconciler:
    """Every method may raise KernelError, ConfigError or FatalFindingsError.

    Then all is as it was before, or ``repair`` finds that it is not.
    """

    def __init__(self, state_file: StateFile | None = None, store: Store | None = None) -> None:
        self._state_file = state_file or StateFile(patient=True)
        self._store = store or Store()

    def found(self) -> AppliedState | None:
        """The state that the kernel's tables were made from, None where nothing is applied."""
        with Planes() as planes, self._state_file.locked():
            state, _ = standing(planes, self._state_file)
        return None if state.text is None else state

    def watch(self) -> Watch:
        """The kernel's word of what others change from now on."""
        return Watch()

    def set_aside(self) -> list[str]:
        """Move files away that cannot be understood, so that there is a start; what was done, in words."""
        with self._state_file.locked():
            return [*self._state_file.set_aside(), *self._store.set_aside()]

    def orders(self) -> OrderBook:
        with self._state_file.locked():
            return self._store.orders()

    def write_orders(self, book: OrderBook) -> None:
        with self._state_file.locked():
            self._store.write_orders(book)

    def trial(self) -> Trial | None:
        with self._state_file.locked():
            return self._store.trial()

    def write_trial(self, trial: Trial | None) -> None:
        with self._state_file.locked():
            self._store.write_trial(trial)

    def kept(self) -> list[Kept]:
        with self._state_file.locked():
            return self._store.kept()

    def text(self, number: int) -> str | None:
        with self._state_file.locked():
            return self._store.text(number)

    def keep(self, text: str, filename: str, who: str, at: float) -> Kept:
        with self._state_file.locked():
            return self._store.keep(text, filename, who, at)

    def apply(self, loaded: Loaded, states: NodeStates, replacements: Replacements) -> Outcome:
        """Have the machine be what the configuration says."""
        _forget(loaded.gateway)
        with Planes() as planes, self._state_file.locked():
            wish = Wish(states, replacements)
            found = prepare(planes, self._state_file, loaded, wish)
            carry_out(planes, self._state_file, found.proposal)
        return _outcome(found.proposal, [finding.text for finding in found.findings])

    def change_states(self, states: NodeStates) -> Outcome:
        """Have other node states in what is applied, and nothing else looked at."""
        with Planes() as planes, self._state_file.locked():
            proposal = propose_states(planes, self._state_file, lambda _gateway, _states: states)
            carry_out(planes, self._state_file, proposal)
        _forget(proposal.want.gateway)
        return replace(_outcome(proposal), unwritten=self._state_file.unwritten)

    def repair(self, loaded: Loaded, states: NodeStates, replacements: Replacements) -> Outcome:
        """Look for what others have changed, and put it back where there is anything."""
        with Planes() as planes, self._state_file.locked():
            damage = self._state_file.set_aside()
            found = prepare(planes, self._state_file, loaded, Wish(states, replacements))
            damage += _disturbed(found.proposal)
            broken = _broken(planes, found.proposal)
            if broken:
                found = prepare(planes, self._state_file, loaded, Wish(states, replacements, distrust=True))
            damage += broken
            if damage:
                carry_out(planes, self._state_file, found.proposal)
        return _outcome(found.proposal, [finding.text for finding in found.findings], damage)

    def look(self) -> Seen | None:
        """Read counters and what is attached; None where nothing of ours stands."""
        with Planes() as planes:
            with self._state_file.locked():
                state, inputs = standing(planes, self._state_file)
            if inputs is None:
                return None
            wanted = Wanted(inputs, state.dataplane)
            counts = planes.of(state.dataplane).counts(inputs)
            counts += [count for side in planes.sides for count in side.counts(wanted)]
            beside = {side.name: lines for side in planes.sides if (lines := side.lines(wanted))}
            attached = planes.xdp.attached() if state.dataplane == XDP else []
        return Seen(state, inputs, counts, attached, beside)

    def flows(self) -> list[FlowCount]:
        """Count the remembered flows; may be called beside the other methods, on another thread."""
        with Planes() as planes:
            with self._state_file.locked():
                state, inputs = standing(planes, self._state_file)
            return [] if inputs is None else planes.of(state.dataplane).flows(inputs)

    def named(self, nodes: Collection[Key], one_in: int) -> list[Named] | None:
        """The connection IDs that were sampled since the last call, None where the data plane samples none.

        One packet in so many is sampled from now on. Like ``flows`` it may be called on another thread.
        """
        with Planes() as planes:
            with self._state_file.locked():
                state, inputs = standing(planes, self._state_file)
            if inputs is None or state.dataplane != XDP:
                return None
            return planes.xdp.named(inputs, nodes, one_in)


def _forget(gateway: Gateway) -> None:
    """Keep what was compiled of configurations and states that are no more from filling the memory."""
    forget_beyond(64 + 4 * len(gateway.services))


def _outcome(proposal: Proposal, findings: list[str] | None = None, damage: Iterable[str] = ()) -> Outcome:
    return Outcome(described(proposal), findings or [], proposal.next_state, list(damage))


def _disturbed(proposal: Proposal) -> Iterable[str]:
    """What is not as it was left, beside the tables' content."""
    if proposal.have is None:
        yield f"the tables of {proposal.state.dataplane} are gone, or others made them"
    elif proposal.have.gateway != proposal.want.gateway:
        yield "another configuration was in force"
    if proposal.interrupted is not None:
        yield f"the last change of {proposal.state.dataplane} was killed halfway"
    for key, value in proposal.host.settings:
        yield f"setting {key} is not {value} any more"
    for own in machine.missing(proposal.host.addresses):
        yield f"address {own.address} is not on {own.interface} any more"
    yield from proposal.beside
    gained = set(proposal.next_state.interfaces) - set(proposal.state.interfaces)
    if proposal.have is not None:
        yield from (f"interface {name} has come" for name in sorted(gained))


def _broken(planes: Planes, proposal: Proposal) -> list[str]:
    """What is wrong with the tables although their stamp is right."""
    if proposal.have is None:
        return []
    return planes.of(proposal.state.dataplane).damage(proposal.have)
