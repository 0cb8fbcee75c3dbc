"""A daemon over a kernel that is a dictionary, which can be told to fail and to be slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pointsman.config import Loaded, parse
from pointsman.daemon.daemon import Daemon
from pointsman.daemon.reconciler import Outcome, Reconciler, Seen
from pointsman.daemon.wanted import Key
from pointsman.dataplane.protocol import FlowCount
from pointsman.dataplane.xdp_samples import Named
from pointsman.kernel.watch import Watch
from pointsman.model import NodeStates
from pointsman.model.orders import OrderBook
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels
from pointsman.plan.replaced import Replacements
from pointsman.reconcile.state import AppliedState
from pointsman.reconcile.store import Kept, Trial


def text(*nodes: str, name: str = "edge") -> str:
    lines = [
        "[gateway]",
        f'name = "{name}"',
        "hash_seed = 1",
        "[[service]]",
        'name = "s"',
        'protocol = "udp"',
        'listen = ["192.0.2.10:5683", "[2001:db8::10]:5683"]',
    ]
    for node in nodes or ("n1", "n2"):
        number = node[1:]
        lines += ["[[service.node]]", f'name = "{node}"', f'address = ["10.0.0.{number}", "fd00::{number}"]']
    lines += ["[[service.check]]", 'type = "udp"', 'send = "x"']
    return "\n".join([*lines, ""])


class Silence(Watch):
    def __init__(self) -> None:
        self.sockets = ()  # type: ignore[assignment]


@dataclass
class Kernel(Reconciler):
    """``fails`` is what methods raise by their names; ``going`` is cleared to have ``apply`` wait."""

    applied: AppliedState = field(default_factory=AppliedState)
    book: OrderBook = field(default_factory=OrderBook)
    on_trial: Trial | None = None
    texts: dict[int, str] = field(default_factory=dict)
    fails: dict[str, Exception] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    going: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.going.set()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]

    def watch(self) -> Watch:
        return Silence()

    def set_aside(self) -> list[str]:
        return []

    def found(self) -> AppliedState | None:
        return None if self.applied.text is None else self.applied

    def orders(self) -> OrderBook:
        return self.book

    def write_orders(self, book: OrderBook) -> None:
        self._called("write_orders")
        self.book = book

    def trial(self) -> Trial | None:
        return self.on_trial

    def write_trial(self, trial: Trial | None) -> None:
        self._called("write_trial")
        self.on_trial = trial

    def kept(self) -> list[Kept]:
        self._called("kept")
        return [Kept(number, 0.0, "", "", len(kept), "") for number, kept in sorted(self.texts.items())]

    def text(self, number: int) -> str | None:
        self._called("text")
        return self.texts.get(number)

    def keep(self, text: str, filename: str, who: str, at: float) -> Kept:
        self._called("keep")
        number = max(self.texts, default=0)
        if self.texts.get(number) != text:
            number += 1
        self.texts[number] = text
        return Kept(number, at, filename, who, len(text), "")

    def apply(self, loaded: Loaded, states: NodeStates, replacements: Replacements) -> Outcome:
        assert self.going.wait(10)
        self._called("apply")
        return self._now(loaded, states, replacements)

    def _now(self, loaded: Loaded, states: NodeStates, replacements: Replacements) -> Outcome:
        held = {key: tuple(own) for key, own in replacements.items()}
        self.applied = AppliedState(loaded.filename, loaded.text, states, replacements=held)
        return Outcome([], [], self.applied, [])

    def change_states(self, states: NodeStates) -> Outcome:
        self._called("change_states")
        assert self.applied.text is not None
        return self._now(parse(self.applied.text, "f"), states, self.applied.replacements)

    def repair(self, loaded: Loaded, states: NodeStates, replacements: Replacements) -> Outcome:
        del loaded, states, replacements
        self._called("repair")
        return Outcome([], [], self.applied, [])

    def flows(self) -> list[FlowCount]:
        return []

    def named(self, nodes: Collection[Key], one_in: int) -> list[Named] | None:  # noqa: ARG002
        return None

    def look(self) -> Seen | None:
        self._called("look")
        assert self.applied.text is not None
        gateway = parse(self.applied.text, "f").gateway
        return Seen(self.applied, PlaneInputs(gateway, self.applied.states, Labels()), [], [], {})


@asynccontextmanager
async def running(kernel: Kernel, file: Path) -> AsyncIterator[Daemon]:
    """A daemon that serves; that its loop has not ended is seen at the end."""
    daemon = Daemon(file, kernel)
    daemon.engine.run = asyncio.Event().wait  # type: ignore[method-assign, assignment]  # nothing is sent
    await daemon.start()
    task = asyncio.create_task(daemon.run())
    try:
        await asyncio.sleep(0)
        yield daemon
        await asyncio.sleep(0)
        assert not task.done(), task.result()
    finally:
        kernel.going.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await daemon.close()


async def until(true: object, patience: float = 5.0) -> None:
    """Wait until a call without arguments says so."""
    assert callable(true)
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.005)
