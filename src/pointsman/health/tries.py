"""Single tries of checks: each ends with an outcome, in time, and so many are under way at most."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from pointsman.health.alarms import Alarm, Alarms
from pointsman.health.at_node import Lane
from pointsman.health.edge.datagrams import Datagrams
from pointsman.health.edge.echoes import Echoes
from pointsman.health.edge.scripts import Scripts
from pointsman.health.edge.sockets import raise_files_limit
from pointsman.health.edge.streams import Done, Streams
from pointsman.health.edge.vips import Vips
from pointsman.health.probes.step import Outcome, failure, untried
from pointsman.health.targets import Target
from pointsman.model import CheckKind

MOST_SCRIPTS = 16
FEWEST_CONNECTS = 16
_STREAMS = (CheckKind.TCP, CheckKind.TLS, CheckKind.HTTP, CheckKind.HTTPS)
_DATAGRAMS = (CheckKind.UDP, CheckKind.COAP, CheckKind.DTLS)

Ended = Callable[[Outcome, float], None]
"""Told of an outcome, and how many seconds the try took."""


class Carrier(Protocol):
    """Whatever begins tries; ``begin`` returns what ends one early."""

    def begin(self, target: Target, done: Done) -> Callable[[], None] | None: ...


class Try:
    """A try that is under way or waits for its turn; once cancelled nothing is heard of it."""

    __slots__ = ("_alarm", "_began", "_cancel", "_ended", "_open", "_room", "_tries", "target")

    def __init__(self, tries: Tries, target: Target, room: Room | None, ended: Ended) -> None:
        self.target = target
        self._tries = tries
        self._room = room
        self._ended = ended
        self._open = True
        self._began: float | None = None
        self._alarm: Alarm | None = None
        self._cancel: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        return self._open

    def begin(self) -> None:
        """Begin; the time-out runs from here."""
        self._began = self._tries.loop.time()
        self._alarm = self._tries.alarms.set(self._began + self.target.check.timeout, self._late)
        cancel = self._tries.carrier(self.target).begin(self.target, self._done)
        if self._open:
            self._cancel = cancel

    def refuse(self, outcome: Outcome) -> None:
        """End it before it has begun."""
        self._close()
        self._ended(outcome, 0.0)

    def cancel(self) -> None:
        self._close()

    def _late(self) -> None:
        self._close()
        self._ended(failure("no answer in time"), self.target.check.timeout)

    def _done(self, outcome: Outcome) -> None:
        if self._open and self._began is not None:
            self._cancel = None
            self._close()
            self._ended(outcome, self._tries.loop.time() - self._began)

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._alarm is not None:
            self._alarm.cancel()
        if self._cancel is not None:
            self._cancel()
        if self._room is not None and self._began is not None:
            self._room.left()


class Room:
    """So many tries at once; the others wait in turn."""

    def __init__(self, loop: AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._free = most
        self._waiting: deque[Try] = deque()

    def enter(self, one: Try) -> None:
        if self._free:
            self._free -= 1
            one.begin()
        else:
            self._waiting.append(one)

    def left(self) -> None:
        self._free += 1
        if self._waiting:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        while self._waiting and self._free:
            one = self._waiting.popleft()
            if one.open:
                self.enter(one)


class Tries:
    """Begins tries; made in the loop that they run in."""

    def __init__(self, loop: AbstractEventLoop, lane: Lane, most_connects: int | None = None) -> None:
        files = raise_files_limit()
        self.loop = loop
        self.alarms = Alarms(loop)
        self._connects = Room(loop, most_connects or max(FEWEST_CONNECTS, files // 4))
        self._processes = Room(loop, MOST_SCRIPTS)
        self._vips = Vips(lane)
        self._streams = Streams(loop, self._vips.port)
        self._datagrams = Datagrams(loop, files // 2, self._vips.port)
        self._echoes = Echoes(loop)
        self._carriers: dict[CheckKind, Carrier] = {
            **dict.fromkeys(_STREAMS, self._streams),
            **dict.fromkeys(_DATAGRAMS, self._datagrams),
            CheckKind.ICMP: self._echoes,
            CheckKind.SCRIPT: Scripts(loop),
        }

    def carrier(self, target: Target) -> Carrier:
        return self._carriers[target.check.kind]

    def begin(self, target: Target, ended: Ended) -> Try:
        """Try the target; ``ended`` may be called before this returns."""
        problem = self._vips.problem(target)
        room = None if problem else self._room(target.check.kind)
        one = Try(self, target, room, ended)
        if problem:
            one.refuse(untried(problem))
        elif room is None:
            one.begin()
        else:
            room.enter(one)
        return one

    def forget(self, target: Target) -> None:
        """Close what is kept open for the target's next try."""
        self._datagrams.forget(target)

    def want(self, targets: Collection[Target]) -> None:
        """Make ready for these targets; files of authorities are read again when they are next needed."""
        self._streams.refresh()
        self._echoes.want(targets)
        self._vips.want(targets)

    def has_lost_its_way(self) -> bool:
        return self._vips.is_lost()

    def close(self) -> None:
        self.alarms.close()
        self._datagrams.close()
        self._echoes.close()
        self._vips.close()

    def _room(self, kind: CheckKind) -> Room | None:
        if kind in _STREAMS:
            return self._connects
        return self._processes if kind is CheckKind.SCRIPT else None
