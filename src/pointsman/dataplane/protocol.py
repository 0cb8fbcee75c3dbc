"""What a data plane can be asked for; the nftables plane and every later one mean the same by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.verdicts import Verdict


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """One counter. ``service`` is "" for the gateway's own; ``subject`` is the node, the listener or ""."""

    service: str
    subject: str
    verdict: Verdict
    packets: int
    bytes: int


class DataPlane(Protocol):
    """Tables in the kernel. Every method raises kernel.errors.KernelError where the machine refuses."""

    @property
    def name(self) -> str: ...

    def capabilities(self) -> Capabilities:
        """Probe what the plans may use on this machine."""

    def stamp(self) -> str | None:
        """What was given as ``stamp`` when the kernel's tables were applied, None where there are none of ours."""

    def transaction(self, have: PlaneInputs | None, want: PlaneInputs) -> str:
        """The text of what ``apply`` would do, "" for nothing; for people and for the log."""

    def apply(self, have: PlaneInputs | None, want: PlaneInputs, stamp: str) -> None:
        """Turn one into the other in one step: every packet sees all of it or nothing."""

    def remove(self) -> None:
        """Leave the kernel without anything of this plane's."""

    def counts(self, inputs: PlaneInputs) -> list[Count]:
        """Every counter of the applied ``inputs``."""
