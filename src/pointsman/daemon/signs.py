"""What is seen of nodes without asking them, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman.daemon.wanted import Key
from pointsman.dataplane.protocol import Count
from pointsman.health.passive import Hold, Reading, Silent, Since, holds_after, signs, since_heard
from pointsman.model import Gateway, Passive
from pointsman.plan.verdicts import Verdict

_SENT = (Verdict.CID, Verdict.FLOW, Verdict.BALANCED)


def counting(gateway: Gateway) -> set[Key]:
    """The nodes of services that count signs as a failing check."""
    return {
        (service.name, node.name)
        for service in gateway.services
        if service.passive is Passive.COUNT
        for node in service.nodes
    }


@dataclass(slots=True)
class Signs:
    """To be fed from time to time; times are on the clock of whoever calls."""

    at: float = 0.0
    since: dict[Key, Since] = field(default_factory=dict)
    found: dict[Key, Silent] = field(default_factory=dict)
    holds: dict[Key, Hold] = field(default_factory=dict)

    def take(self, counts: Iterable[Count], gateway: Gateway, now: float) -> None:
        readings = _readings(counts, gateway)
        for key, hold in self.holds.items():
            if self.at < hold.until <= now:
                self.since.pop(key, None)  # what it was sent before says nothing of what it does now
        self.at = now
        before, self.since = self.since, since_heard(self.since, readings, now)
        self.found = signs(self.since, readings, now)
        heard = [
            key
            for key, known in before.items()
            if key in readings and readings[key].answers > known.reading.answers
        ]
        counted = counting(gateway)
        holds = {key: hold for key, hold in self.holds.items() if key in counted}
        self.holds = holds_after(holds, counted & self.found.keys(), heard, now)

    def held(self, now: float) -> frozenset[Key]:
        """Who is to be down."""
        return frozenset(key for key, hold in self.holds.items() if hold.until > now)

    def next_end(self, now: float) -> float | None:
        return min((hold.until for hold in self.holds.values() if hold.until > now), default=None)


def _readings(counts: Iterable[Count], gateway: Gateway) -> dict[Key, Reading]:
    """Of nodes whose answers pass here, and of services that want it."""
    seen = {
        (service.name, node.name)
        for service in gateway.services
        if service.passive is not Passive.OFF and not service.forward.answers_pass_by
        for node in service.nodes
    }
    sent: dict[Key, int] = defaultdict(int)
    answers: dict[Key, int] = defaultdict(int)
    for count in counts:
        key = count.service, count.subject
        if count.verdict in _SENT:
            sent[key] += count.packets
        elif count.verdict is Verdict.REPLY:
            answers[key] += count.packets
    return {key: Reading(sent[key], answers[key]) for key in seen}
