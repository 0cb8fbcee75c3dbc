"""Runs the checks of a gateway and says which nodes are healthy; it never touches the data plane."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pointsman.health.alarms import Alarm
from pointsman.health.at_node import ENGINE, Lane
from pointsman.health.dampener import Verdict
from pointsman.health.probes.step import Outcome
from pointsman.health.schedule import first_due, next_due
from pointsman.health.targets import Target, Watched, combined, watched, words_of
from pointsman.health.tries import Tries, Try
from pointsman.model import CheckKind, Gateway

Observer = Callable[[str, CheckKind, bool | None, float], None]
"""Told of each try: a service that it is for, whether it passed, None where it could not be made, and its seconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """A node is healthy from now on, or is not; ``at`` in seconds since the epoch."""

    service: str
    node: str
    healthy: bool
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Untried:
    """A check of a node cannot be tried, so that its verdict stays; without a reason it is tried again."""

    service: str
    node: str
    check: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one check of a node at one address; ``healthy`` None: no verdict yet.

    ``tried`` False: the last try could not be made, ``said`` is why. ``since`` is in seconds since the epoch,
    ``latency`` in seconds; ``changes`` are those of the last ten minutes.
    """

    kind: CheckKind
    target: str
    healthy: bool | None
    since: float | None
    said: str
    latency: float | None
    changes: int
    tried: bool = True


class _Run:
    """One target: its verdict, and its next try or the one that is under way."""

    __slots__ = ("alarm", "due", "latency", "said", "target", "under_way", "untried", "users", "verdict")

    def __init__(self, target: Target, due: float) -> None:
        self.target = target
        self.due = due
        self.verdict = Verdict()
        self.users: list[Watched] = []
        self.said = ""
        self.untried = 0
        self.latency: float | None = None
        self.alarm: Alarm | None = None
        self.under_way: Try | None = None

    def stop(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.under_way is not None:
            self.under_way.cancel()
            self.under_way = None


class Engine:
    """``report`` is called for each change of a node, from ``want`` or in the loop of ``run``.

    ``tell_untried`` is told when so many tries in a row as make a node unhealthy could not be made, and when one is.

    A node without a verdict is not reported: what is known of it stands. ``most_connects`` tries over TCP are under
    way at most; without it, a quarter of the files that the process may open. ``lane`` is by which VIPs at nodes are
    asked, and for one engine in a network namespace.
    """

    def __init__(
        self,
        report: Callable[[Change], None],
        *,
        tell_untried: Callable[[Untried], None] = lambda _: None,
        most_connects: int | None = None,
        lane: Lane = ENGINE,
    ) -> None:
        self._report = report
        self._tell_untried = tell_untried
        self._lane = lane
        self._most_connects = most_connects
        self._observers: list[Observer] = []
        self._random = random.Random()  # noqa: S311  # it spreads checks out
        self._runs: dict[Target, _Run] = {}
        self._watched: dict[tuple[str, str], Watched] = {}
        self._healthy: dict[tuple[str, str], bool] = {}
        self._tries: Tries | None = None

    def add_observer(self, observer: Observer) -> None:
        """Have ``observer`` told of every try."""
        self._observers.append(observer)

    def want(self, gateway: Gateway) -> None:
        """Check what this gateway says from now on; targets that stay keep their verdicts and their times."""
        before, self._watched = self._watched, {(one.service, one.node): one for one in watched(gateway)}
        wanted: dict[Target, list[Watched]] = {}
        for one in self._watched.values():
            for target in one.targets:
                wanted.setdefault(target, []).append(one)
        for target in self._runs.keys() - wanted.keys():
            self._runs.pop(target).stop()
            if self._tries is not None:
                self._tries.forget(target)
        now = time.monotonic()
        for target, users in wanted.items():
            run = self._runs.get(target)
            if run is None:
                run = self._runs[target] = _Run(target, first_due(target.check, now, self._random.random))
                self._await(run)
            run.users = users
        if self._tries is not None:
            self._tries.want(self._runs.keys())
        self._release(before.keys() - self._watched.keys(), gateway)
        for one in self._watched.values():
            self._judge(one, None)  # the same verdicts may mean something else now

    def has_lost_its_way(self) -> bool:
        """Whether VIPs at nodes are not reached as when targets were last wanted; may be called on another thread."""
        return self._tries is not None and self._tries.has_lost_its_way()

    async def run(self) -> None:
        """Check until cancelled; nothing is left open then."""
        loop = asyncio.get_running_loop()
        self._tries = Tries(loop, self._lane, self._most_connects)
        try:
            self._tries.want(self._runs.keys())
            for run in self._runs.values():
                self._await(run)
            await loop.create_future()
        finally:
            for run in self._runs.values():
                run.stop()
            self._tries.close()
            self._tries = None

    def results(self) -> Mapping[tuple[str, str], tuple[Result, ...]]:
        """By service and node: every check at every address, in the file's order."""
        now = time.time()
        return {
            key: tuple(
                _result(self._runs[target], words, now)
                for target, words in zip(one.targets, words_of(one), strict=True)
            )
            for key, one in self._watched.items()
        }

    def healthy(self, service: str, node: str) -> bool | None:
        """What was last reported of a node; None where nothing was."""
        return self._healthy.get((service, node))

    def _await(self, run: _Run) -> None:
        """Have the run's next try begin when it is due."""
        if self._tries is not None:
            run.alarm = self._tries.alarms.set(run.due, lambda: self._begin(run))

    def _begin(self, run: _Run) -> None:
        assert self._tries is not None  # noqa: S101  # whose alarm it was
        begun = self._tries.begin(run.target, lambda outcome, seconds: self._take(run, outcome, seconds))
        run.under_way = begun if begun.open else None

    def _take(self, run: _Run, outcome: Outcome, seconds: float) -> None:
        """Take a result in, and have the next try follow."""
        check = run.target.check
        run.under_way = None
        run.said = outcome.said
        before, untried = run.verdict.healthy, run.untried
        run.untried = untried + 1 if outcome.ok is None else 0
        if outcome.ok is not None:
            run.verdict = run.verdict.after(outcome.ok, time.time(), rise=check.rise, fall=check.fall)
        settled = run.verdict.settled
        run.due = next_due(check, run.due, time.monotonic(), self._random.random, settled=settled)
        self._await(run)
        if outcome.ok:
            run.latency = seconds
        for service in {user.service for user in run.users}:
            for observer in self._observers:
                observer(service, check.kind, outcome.ok, seconds)
        if run.untried == check.fall or (untried >= check.fall and not run.untried):
            for user in run.users:
                reason = run.said if run.untried else None
                self._tell_untried(Untried(user.service, user.node, _words(user, run), reason))
        if run.verdict.healthy is not before:
            for user in run.users:
                self._judge(user, run)

    def _judge(self, one: Watched, cause: _Run | None) -> None:
        """Report the node if it is not what it was."""
        healthy = combined(one, lambda target: self._runs[target].verdict.healthy)
        key = one.service, one.node
        if healthy is None or self._healthy.get(key) is healthy:
            return
        self._healthy[key] = healthy
        reason = "by other checks than before" if cause is None else f"{_words(one, cause)}: {cause.said}"
        self._report(Change(*key, healthy=healthy, reason=reason, at=time.time()))

    def _release(self, gone: set[tuple[str, str]], gateway: Gateway) -> None:
        """Forget nodes that are checked no longer; one that is still there must not stay unhealthy for ever."""
        nodes = {(service.name, node.name) for service in gateway.services for node in service.nodes}
        for key in sorted(gone):
            if self._healthy.pop(key, None) is False and key in nodes:
                self._report(Change(*key, healthy=True, reason="checked no longer", at=time.time()))


def _words(one: Watched, run: _Run) -> str:
    """The check's kind and target, as results of the node have it."""
    words = dict(zip(one.targets, words_of(one), strict=True))
    return f"{run.target.check.kind} {words.get(run.target, run.target)}"


def _result(run: _Run, words: str, now: float) -> Result:
    return Result(
        kind=run.target.check.kind,
        target=words,
        healthy=run.verdict.healthy,
        since=run.verdict.since,
        said=run.said,
        latency=run.latency,
        changes=run.verdict.changes(now),
        tried=not run.untried,
    )
