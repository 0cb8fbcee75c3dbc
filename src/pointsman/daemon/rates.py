"""Packets per second, from counters that were read some time apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman.dataplane.protocol import Count

Key = tuple[str, str, str]
"""Service, node or listener, verdict."""

SHORTEST = 0.5
"""Seconds; over less a rate is noise."""
LONGEST = 30.0
"""Seconds; what is older says nothing of now."""


@dataclass(slots=True)
class Rates:
    """``last`` are the packets that were counted when rates were last taken."""

    at: float = 0.0
    last: dict[Key, int] = field(default_factory=dict)
    found: dict[Key, float] = field(default_factory=dict)

    def take(self, counts: Iterable[Count], now: float) -> dict[Key, float]:
        """Rates since the counters before these; a counter that fell has begun anew."""
        packets = {(count.service, count.subject, str(count.verdict)): count.packets for count in counts}
        passed = now - self.at
        if passed >= SHORTEST:
            known = self.last if passed <= LONGEST else {}
            self.found = {
                key: (value - known[key]) / passed
                for key, value in packets.items()
                if key in known and value >= known[key]
            }
            self.at, self.last = now, packets
        return self.found
