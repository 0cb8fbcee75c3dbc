"""What a data plane can be asked for; the nftables plane and every later one mean the same by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pointsman.model import Endpoint
from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.verdicts import Verdict


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """One counter. ``service`` is "" for the gateway's own and guards'; ``subject`` is node, listener, guard, ""."""

    service: str
    subject: str
    verdict: Verdict
    packets: int
    bytes: int


class FlowKind(StrEnum):
    """What is known of remembered flows; ``flow`` where new ones are not told from those that a node has answered.

    ``network`` is no flow: the node of a client network, by affinity.
    """

    FLOW = "flow"
    NEW = "new"
    ANSWERED = "answered"
    CLOSING = "closing"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, order=True)
class FlowCount:
    """How many flows are remembered for a node.

    ``services`` are more than one where the memory does not say which of them flows are of, as both have this node;
    none and no node where the flows are of a node that is gone. ``leaving``: the file names the node no more.
    """

    services: tuple[str, ...]
    node: str
    kind: FlowKind
    flows: int
    leaving: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Client:
    """Whose flow is remembered; ``seconds`` are left to it."""

    listener: Endpoint
    client: Endpoint
    seconds: float


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of a node's flows; ``hashed`` are those of which the memory holds a hash only."""

    known: list[Client]
    hashed: int


class DataPlane(Protocol):
    """Tables in the kernel. Every method raises kernel.errors.KernelError where the machine refuses."""

    @property
    def name(self) -> str: ...

    def capabilities(self) -> Capabilities:
        """Probe what the plans may use on this machine."""

    def stamp(self) -> str | None:
        """What was given as ``stamp`` when the kernel's tables were applied, None where there are none of ours."""

    def left_halfway(self) -> bool:
        """Whether what was applied last still has what stood before beside it, uncleared."""

    def finish(self, have: PlaneInputs, want: PlaneInputs, stamp: str) -> None:
        """Clear away what stood before a change from ``have`` to ``want`` that was left halfway."""

    def transaction(self, have: PlaneInputs | None, want: PlaneInputs) -> str:
        """The text of what ``apply`` would do, "" for nothing; for people and for the log."""

    def apply(self, have: PlaneInputs | None, want: PlaneInputs, stamp: str) -> None:
        """Turn one into the other in one step: every packet goes by the one or by the other."""

    def remove(self) -> None:
        """Leave the kernel without anything of this plane's."""

    def counts(self, inputs: PlaneInputs) -> list[Count]:
        """Every counter of the applied ``inputs``."""

    def flows(self, inputs: PlaneInputs) -> list[FlowCount]:
        """How many flows are remembered for the nodes of the applied ``inputs``, for those that have any."""

    def clients(self, inputs: PlaneInputs, service: str, node: str) -> Clients:
        """Whose flows of a service are remembered for a node."""

    def damage(self, inputs: PlaneInputs) -> list[str]:
        """What others have done to what ``inputs`` were applied as, in words; as far as can be told cheaply."""


def merged(counts: list[Count]) -> list[Count]:
    """Add up what several listeners, or families, have of the same."""
    totals: dict[tuple[str, str, Verdict], tuple[int, int]] = {}
    for count in counts:
        key = (count.service, count.subject, count.verdict)
        packets, size = totals.get(key, (0, 0))
        totals[key] = (packets + count.packets, size + count.bytes)
    return [Count(*key, *total) for key, total in sorted(totals.items())]


def flow_counts(found: Iterable[FlowCount]) -> list[FlowCount]:
    """Add up what several listeners, or families, remember of the same."""
    totals: dict[tuple[tuple[str, ...], str, FlowKind, bool], int] = {}
    for one in found:
        key = (one.services, one.node, one.kind, one.leaving)
        totals[key] = totals.get(key, 0) + one.flows
    return sorted(
        FlowCount(services, node, kind, flows, leaving)
        for (services, node, kind, leaving), flows in totals.items()
        if flows
    )
