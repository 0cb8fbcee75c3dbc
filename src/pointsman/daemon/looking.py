"""What the kernel says of what is in force: counters, rates, and what still names draining nodes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pointsman.daemon.census import Census
from pointsman.daemon.draining import Draining
from pointsman.daemon.events import Kind
from pointsman.daemon.in_force import InForce
from pointsman.daemon.rates import Rates
from pointsman.daemon.reconciler import Seen
from pointsman.daemon.signs import counting
from pointsman.health.passive import EVERY as SIGNS_EVERY
from pointsman.reconcile.state import now

FRESH = 0.5
"""Seconds that counters are shown for before they are read again."""
FEED_EVERY = 5.0
"""Seconds between looks at what still names draining nodes."""


class Looking:
    """Looks are remembered for a moment, so that many who ask cost one look."""

    def __init__(self, in_force: InForce) -> None:
        self._in_force = in_force
        self._one = asyncio.Lock()
        self.rates = Rates()
        self.draining = Draining()
        self._fed_at = 0.0
        self._seen: tuple[float, int, Seen] | None = None
        self.census = Census(in_force.reconciler.flows, in_force.reader, now)
        self._signs_due = 0.0

    async def look(self) -> Seen | None:
        """None where nothing of ours stands in the kernel; raise KernelError."""
        self._fed_at = now()  # also where it fails, so that the next one is not due at once
        # One look serves all who ask meanwhile, or a crowd of them would keep orders waiting.
        async with self._one:
            changes = self._in_force.changes
            if self._seen is not None and now() - self._seen[0] < FRESH and self._seen[1] == changes:
                return self._seen[2]
            seen = await self._in_force.do(self._in_force.reconciler.look)
            if seen is None:
                return None
            self._seen = now(), changes, seen
        self.rates.take(seen.counts, now())
        self.draining.feed(seen.counts, self._in_force.draining, now())
        self._take_signs(seen)
        return seen

    @property
    def feed_at(self) -> float | None:
        """When the next look is due for those that drain, None where none does."""
        return self._fed_at + FEED_EVERY if self._in_force.draining else None

    async def feed(self) -> None:
        due = self.feed_at
        if due is not None and now() >= due:
            self.census.begin()
            await self.look()

    @property
    def signs_at(self) -> float | None:
        """When signs are due to be looked for, or somebody's time that is down by them is over."""
        in_force = self._in_force
        end = in_force.signs.next_end(now())
        due = [self._signs_due] if counting(in_force.present().gateway) else []
        return min([*due, *([] if end is None else [end])], default=None)

    async def count_signs(self) -> None:
        """Read the counters where signs count, and have nodes down by them, or up again."""
        in_force = self._in_force
        try:
            if counting(in_force.present().gateway) and now() >= self._signs_due:
                self._signs_due = now() + SIGNS_EVERY
                await self.look()
        finally:
            in_force.wanted = replace(in_force.present(), held=in_force.signs.held(now()))

    def _take_signs(self, seen: Seen) -> None:
        signs = self._in_force.signs
        before, holds = signs.found, signs.holds
        signs.take(seen.counts, seen.inputs.gateway, now())
        for service, node in sorted(before.keys() ^ signs.found.keys()):
            sign, hold = signs.found.get((service, node)), signs.holds.get((service, node))
            is_new = hold is not None and hold != holds.get((service, node))
            for_time = f"; taken for down for {hold.seconds:.0f} s" if hold is not None and is_new else ""
            self._in_force.log.add(
                Kind.SIGN,
                f"{service}/{node}: {f'{sign}{for_time}' if sign is not None else 'the sign is over'}",
                service=service,
                node=node,
            )
