"""What still names nodes that are draining, and for how long nothing has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pointsman.dataplane.protocol import Count
from pointsman.plan.verdicts import Verdict

NAMING = (Verdict.CID, Verdict.FLOW)
"""Verdicts of packets that came because they, or their flow, name the node."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Packets that named a node so far, and when that was last seen to grow."""

    packets: int
    last: float


@dataclass(slots=True)
class Draining:
    """Times are on the clock of whoever calls. To be fed from time to time, the oftener the more exact."""

    nodes: dict[tuple[str, str], Naming] = field(default_factory=dict)

    def feed(self, counts: Iterable[Count], draining: Collection[tuple[str, str]], now: float) -> None:
        found: dict[tuple[str, str], int] = dict.fromkeys(draining, 0)
        for count in counts:
            key = count.service, count.subject
            if key in found and count.verdict in NAMING:
                found[key] += count.packets
        self.nodes = {key: _fed(self.nodes.get(key), packets, now) for key, packets in found.items()}

    def quiet(self, service: str, node: str, now: float) -> float:
        """Seconds since anything last named the node, 0 where that is not known."""
        naming = self.nodes.get((service, node))
        return now - naming.last if naming is not None else 0.0


def _fed(before: Naming | None, packets: int, now: float) -> Naming:
    if before is not None and before.packets == packets:
        return before
    return Naming(packets, now)


def rate_of(rates: Mapping[tuple[str, str, str], float], service: str, node: str, verdict: Verdict) -> float:
    return rates.get((service, node, str(verdict)), 0.0)
