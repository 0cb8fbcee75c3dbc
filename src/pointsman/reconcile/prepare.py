"""Look at the machine, choose the data plane, and plan the whole way to what a file says; nothing is done yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pointsman.config import Loaded
from pointsman.kernel.errors import KernelError
from pointsman.kernel.nft import Nft
from pointsman.model import DataPlaneChoice, Gateway
from pointsman.plan.choice import Choice, Interfaces, XdpFacts, choose, interfaces_of
from pointsman.plan.describe import describe
from pointsman.plan.findings import Finding, Surroundings, fatal, find
from pointsman.reconcile.apply import Proposal, Wish, propose
from pointsman.reconcile.planes import Planes, xdp_facts
from pointsman.reconcile.state import StateFile
from pointsman.reconcile.surroundings import look_around


class FatalFindingsError(Exception):
    """Something on this machine keeps the configuration from being applied."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(finding.text for finding in self.findings))


@dataclass(frozen=True, slots=True)
class Prepared:
    proposal: Proposal
    choice: Choice
    interfaces: Interfaces
    around: Surroundings
    findings: list[Finding]


def look_here(gateway: Gateway, nft: Nft) -> Surroundings:
    """The machine; without root nothing is known of other people's rules, and that is said."""
    try:
        return look_around(gateway, nft)
    except KernelError as problem:
        unread = f"other people's forward chains were not looked at: {problem}"
        return replace(look_around(gateway, None), unread=(unread,))


def choose_plane(
    planes: Planes, gateway: Gateway, around: Surroundings, *, acting: bool = True
) -> tuple[Choice, Interfaces]:
    """Settle on the data plane and its interfaces, for this machine; who only checks needs no privileges."""
    interfaces = interfaces_of(gateway, around)
    names = (*interfaces.names, *gateway.guarded)
    if gateway.dataplane is DataPlaneChoice.NFTABLES:
        return choose(gateway, XdpFacts()), interfaces
    try:
        ours = frozenset(port.name for port in planes.xdp.attached())
    except KernelError:  # without root
        ours = frozenset(names)  # it cannot be told
    return choose(gateway, xdp_facts(names, ours, acting=acting)), interfaces


def prepare(planes: Planes, state_file: StateFile, loaded: Loaded, wish: Wish | None = None) -> Prepared:
    """Plan the way to ``loaded``, under the state's lock; raise FatalFindingsError, KernelError."""
    around = look_here(loaded.gateway, planes.nft)
    choice, interfaces = choose_plane(planes, loaded.gateway, around)
    findings = find(loaded.gateway, around, choice.plane)
    if stopping := fatal(findings):
        raise FatalFindingsError(stopping)
    if choice.refusal is not None:
        raise KernelError(choice.refusal)
    proposal = propose(planes, state_file, loaded, choice, interfaces, wish)
    return Prepared(proposal, choice, interfaces, around, findings)


def described(proposal: Proposal) -> list[str]:
    """What carrying the proposal out changes, in words."""
    lines = describe(
        proposal.have, proposal.want, proposal.host, facts=proposal.facts, carried=proposal.state.addresses
    )
    before, after = proposal.state.dataplane, proposal.next_state.dataplane
    moves = proposal.have is not None and before != after
    plane = [f"data plane: {before} -> {after}; flows and counters do not move"] if moves else []
    if proposal.interrupted is not None:
        plane.append(f"{before}: the last change was killed halfway, and is carried to its end")
    return [*plane, *lines, *proposal.beside]
