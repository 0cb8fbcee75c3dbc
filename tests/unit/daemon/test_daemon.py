"""The loop over a machine that is made up: what it does where files cannot be written, and of orders at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.daemon.fake import Silence
from tests.unit.daemon.test_wanted import TEXT

from pointsman.api import documents as api
from pointsman.api.operator import RefusedError
from pointsman.config import Loaded, parse
from pointsman.daemon import in_force, steps
from pointsman.daemon.daemon import Daemon
from pointsman.daemon.events import Kind
from pointsman.daemon.reconciler import Outcome, Reconciler, Seen
from pointsman.daemon.wanted import Key
from pointsman.dataplane.protocol import FlowCount
from pointsman.dataplane.xdp_samples import Named
from pointsman.kernel.errors import KernelError
from pointsman.kernel.watch import Watch
from pointsman.model import NodeState, NodeStates
from pointsman.model.orders import OrderBook
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels
from pointsman.plan.replaced import Replacements
from pointsman.reconcile.state import AppliedState
from pointsman.reconcile.store import Kept, Trial

PLAIN = TEXT[: TEXT.index("  [[service.check]]")]
OTHER = PLAIN.replace('name = "n2"', 'name = "n5"')


class MadeUp(Reconciler):
    """A machine with a disk that may be full, a kernel that may refuse, and nothing that could be looked at."""

    def __init__(self) -> None:
        self.full = self.refuses = self.gone = False
        self.state = AppliedState()
        self.book = OrderBook()
        self.on_trial: Trial | None = None
        self.texts: list[str] = []
        self.looks = 0
        self.repaired_to = ""

    def _write(self) -> None:
        time.sleep(0.005)
        if self.full:
            raise KernelError("cannot write: No space left on device")

    def found(self) -> AppliedState | None:
        return None

    def set_aside(self) -> list[str]:
        return []

    def watch(self) -> Watch:
        return Silence()

    def orders(self) -> OrderBook:
        return self.book

    def write_orders(self, book: OrderBook) -> None:
        self._write()
        self.book = book

    def trial(self) -> Trial | None:
        return self.on_trial

    def write_trial(self, trial: Trial | None) -> None:
        self._write()
        self.on_trial = trial

    def kept(self) -> list[Kept]:
        return [Kept(number, 0.0, "", "", 0, "") for number, _ in enumerate(self.texts, 1)]

    def text(self, number: int) -> str | None:
        return self.texts[number - 1]

    def keep(self, text: str, filename: str, who: str, at: float) -> Kept:
        self._write()
        self.texts.append(text)
        return Kept(len(self.texts), at, filename, who, 0, "")

    def apply(self, loaded: Loaded, states: NodeStates, _: Replacements) -> Outcome:
        self._write()
        self.state = AppliedState(text=loaded.text, states=states)
        return Outcome([], [], self.state, [])

    def change_states(self, states: NodeStates) -> Outcome:
        self._write()
        if self.refuses:
            raise KernelError("refused")
        self.state = AppliedState(text=self.state.text, states=states)
        return Outcome([], [], self.state, [])

    def repair(self, loaded: Loaded, _: NodeStates, __: Replacements) -> Outcome:
        self.repaired_to = loaded.text
        return Outcome([], [], self.state, [])

    def flows(self) -> list[FlowCount]:
        return []

    def named(self, nodes: Collection[Key], one_in: int) -> list[Named] | None:  # noqa: ARG002
        return None

    def look(self) -> Seen | None:
        self.looks += 1
        if self.state.text is None or self.gone:
            return None
        time.sleep(0.01)
        inputs = PlaneInputs(parse(self.state.text, "gateway.toml").gateway, self.state.states, Labels())
        return Seen(self.state, inputs, [], [], {})


def over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Callable[[Daemon, MadeUp], Awaitable[None]]
) -> None:
    """Have the case done with a daemon that runs, and see that it still does behind it."""
    monkeypatch.setattr(in_force, "RETRY", 0.05)
    monkeypatch.setattr(steps, "FIRST", 0.05)
    file = tmp_path / "gateway.toml"
    file.write_text(PLAIN)

    async def run() -> None:
        machine = MadeUp()
        daemon = Daemon(file, machine)
        await daemon.start()
        running = asyncio.create_task(daemon.run())
        try:
            async with asyncio.timeout(30):
                await case(daemon, machine)
            assert not running.done()
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await daemon.close()

    asyncio.run(run())


async def told(daemon: Daemon, kind: Kind) -> api.Event:
    async for event in daemon.follow(0):
        if event.kind == kind:
            return event
    raise AssertionError(kind)


def ordered(verb: api.Verb, seconds: float | None = None) -> api.OrderRequest:
    return api.OrderRequest(verb=verb, seconds=seconds)


def test_an_order_ends_in_time_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        await daemon.order("me", "s", "n1", ordered(api.Verb.DISABLE, 1))
        machine.full = True
        await told(daemon, Kind.ORDER_ENDED)
        assert "No space left" in (await told(daemon, Kind.FAILED)).text
        assert await daemon.orders() == []
        machine.full = False
        while machine.state.states.of("s", "n1") is not NodeState.UP:
            await asyncio.sleep(0.01)

    over(tmp_path, monkeypatch, case)


def test_what_is_not_confirmed_goes_back_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        await daemon.apply("me", api.ApplyRequest(text=OTHER, filename="other.toml", confirm=1))
        machine.full = True
        assert "tried again" in (await told(daemon, Kind.FAILED)).text
        assert machine.state.text == OTHER
        machine.full = False
        await told(daemon, Kind.ROLLED_BACK)
        assert machine.state.text == PLAIN
        while machine.on_trial is not None:
            await asyncio.sleep(0.01)

    over(tmp_path, monkeypatch, case)


def test_orders_that_come_at_once_are_all_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        nodes = ("n1", "n2")
        await asyncio.gather(*(daemon.order("me", "s", node, ordered(api.Verb.DRAIN)) for node in nodes))
        assert sorted(order.node or "" for order in machine.book.orders) == ["n1", "n2"]

    over(tmp_path, monkeypatch, case)


def test_a_change_that_was_refused_and_is_wanted_no_more_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        machine.refuses = True
        with pytest.raises(RefusedError, match="tried again"):
            await daemon.order("me", "s", "n1", ordered(api.Verb.DISABLE))
        await daemon.order("me", "s", "n1", ordered(api.Verb.ENABLE))

    over(tmp_path, monkeypatch, case)


def test_tables_that_are_gone_are_not_looked_for_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        machine.gone = True
        await daemon.order("me", "s", "n1", ordered(api.Verb.DRAIN))
        await asyncio.sleep(0.5)
        assert 1 <= machine.looks <= 2

    over(tmp_path, monkeypatch, case)


def test_a_crowd_that_asks_at_once_is_told_of_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(daemon: Daemon, machine: MadeUp) -> None:
        await asyncio.gather(*(daemon.status() for _ in range(50)))
        assert machine.looks == 1

    over(tmp_path, monkeypatch, case)


def test_a_repair_that_waits_for_a_new_configuration_is_by_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the old one it would take the new one's tables for damage."""

    async def case(daemon: Daemon, machine: MadeUp) -> None:
        applying = asyncio.create_task(
            daemon.apply("me", api.ApplyRequest(text=OTHER, filename="other.toml"))
        )
        while not daemon._in_force.turn.locked():
            await asyncio.sleep(0)
        daemon._repairs.heard(Silence())
        while not machine.repaired_to:
            await asyncio.sleep(0.01)
        await applying
        assert machine.repaired_to == OTHER

    over(tmp_path, monkeypatch, case)
