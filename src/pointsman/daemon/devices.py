"""How many devices still name draining nodes: an estimate from sampled records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pointsman.daemon.distinct import Window
from pointsman.daemon.rates import Key
from pointsman.dataplane.xdp_samples import Named

EVERY = 2.0
"""Seconds between readings of samples: the ring holds some two thousand."""
MOST = 800.0
"""Samples per second that are aimed at."""
UNKNOWN = 1000
"""One packet in so many is sampled while nothing is known of the rate."""
HALF = 450.0
"""Seconds; an estimate is of the last seven and a half to fifteen minutes."""


def one_in(rates: Mapping[Key, float]) -> int:
    """One packet in how many to sample, given all packets' rates; all of them where they are few."""
    return max(1, math.ceil(sum(rates.values()) / MOST)) if rates else UNKNOWN


@dataclass(slots=True)
class Devices:
    """``windows`` are of the nodes that drain and are sampled."""

    windows: dict[tuple[str, str], Window] = field(default_factory=dict)

    def take(self, found: Iterable[Named], draining: Collection[tuple[str, str]], now: float) -> None:
        self.windows = {key: self.windows.get(key) or Window(HALF, now) for key in draining}
        for each in found:
            window = self.windows.get((each.service, each.node))
            if window is not None:
                window.add(each.connection_id, now)

    def estimate(self, service: str, node: str, now: float) -> int | None:
        """None where the node is not sampled."""
        window = self.windows.get((service, node))
        return None if window is None else window.estimate(now)
