"""What Pointsman keeps in the kernel beside the data plane of the services, and what it can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pointsman.dataplane.protocol import Count
from pointsman.plan.inputs import PlaneInputs


@dataclass(frozen=True, slots=True)
class Wanted:
    """The inputs of the tables, and the data plane that they are for."""

    inputs: PlaneInputs
    plane: str


class Side(Protocol):
    """One of them. It knows its own in the kernel by name or number, so that a killed process leaves no riddle.

    Every method raises kernel.errors.KernelError where the machine refuses.
    """

    name: str

    def changes(self, want: Wanted) -> list[str]:
        """What ``apply`` and ``settle`` would change, one line each, for people."""

    def apply(self, have: Wanted | None, want: Wanted) -> None:
        """Have everything there that ``want`` needs, and still what the services of ``have`` do.

        It comes before the data plane changes from the one to the other.
        """

    def settle(self, want: Wanted) -> None:
        """Take away what ``want`` does not need; also the way back, where something after ``apply`` failed."""

    def remove(self) -> None:
        """Leave the kernel without anything of this side's."""

    def counts(self, want: Wanted) -> list[Count]:
        """Its counters."""

    def lines(self, want: Wanted) -> list[str]:
        """What stands, one line each, for people."""
