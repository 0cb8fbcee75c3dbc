"""What is wanted of the machine and what it has, and the smallest change from the one to the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from pointsman.api import documents as api
from pointsman.api.metrics import Figures
from pointsman.api.operator import RefusedError
from pointsman.daemon import views
from pointsman.daemon.events import EventLog, Kind
from pointsman.daemon.reconciler import Outcome, Reconciler
from pointsman.daemon.signs import Signs, counting
from pointsman.daemon.wanted import Key, Wanted
from pointsman.daemon.words import TROUBLE, explained, line
from pointsman.health.engine import Engine
from pointsman.model import Gateway, NodeState, NodeStates
from pointsman.model.orders import OrderBook
from pointsman.plan.replaced import with_replacements
from pointsman.reconcile.state import now

Result = TypeVar("Result")

RETRY = 5.0
"""Seconds until a change of node states that failed is tried again."""


class InForce:
    """All methods are of the loop's thread; the kernel's work is done on one other.

    ``wake`` is set when there is something to do; ``changes`` counts what was carried out. Who reads what is wanted
    and then changes it holds ``turn`` meanwhile; verdicts of checks come without. ``changing`` says that the kernel
    is being changed just now, so that its word of a change is word of our own.
    """

    def __init__(self, reconciler: Reconciler, events: EventLog, engine: Engine, figures: Figures) -> None:
        self.reconciler, self.log, self.engine, self.figures = reconciler, events, engine, figures
        self._thread = ThreadPoolExecutor(1, "kernel")
        # Reading much takes long, and nothing else should wait for it.
        self.reader = ThreadPoolExecutor(1, "reader")
        self.signs = Signs()
        self.turn = asyncio.Lock()
        self.busy = asyncio.Lock()
        self.changing = False
        self.wake = asyncio.Event()
        self.wanted: Wanted | None = None
        self.states = NodeStates()
        self.findings: list[str] = []
        self.changes = 0
        self.applied_at: float | None = None
        self.retry_at: float | None = None
        self.refusal = ""
        # What was agreed to end at a time ends when that much has passed, wherever the clock is set to meanwhile.
        self.epoch = time.time() - now()

    async def do(self, call: Callable[[], Result]) -> Result:
        """Have it done on the kernel's thread; a machine without room or descriptors is a KernelError as well."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: explained(call))

    async def read(self, call: Callable[[], Result]) -> Result:
        """Like ``do``, for what reads much and takes long."""
        return await asyncio.get_running_loop().run_in_executor(self.reader, lambda: explained(call))

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self.reader.shutdown(wait=True)

    def date(self) -> float:
        """Seconds since the epoch by a clock that nobody sets while the daemon runs."""
        return self.epoch + now()

    def present(self) -> Wanted:
        if self.wanted is None:
            raise RefusedError("the daemon is still starting", status=503)
        return self.wanted

    @property
    def gateway(self) -> Gateway:
        wanted = self.present()
        return with_replacements(wanted.gateway, wanted.replacements())

    @property
    def draining(self) -> list[Key]:
        """Nodes that are ordered to drain, and are there; also while checks find them down."""
        if self.wanted is None:
            return []
        found = {service.name: service for service in self.wanted.gateway.services}
        ordered = [key for key, state in self.wanted.book.nodes.items() if state is NodeState.DRAINING]
        return [key for key in ordered if key[0] in found and found[key[0]].node(key[1]) is not None]

    def effective(self, wanted: Wanted) -> tuple[Wanted, NodeStates]:
        """The states that are wanted, and what is wanted with the nodes noted that come back by them."""
        states = wanted.states(self.states, now())
        wanted = wanted.after(self.states, states, now())
        return wanted, wanted.states(self.states, now())

    async def apply(self, wanted: Wanted) -> Outcome:
        wanted, states = self.effective(wanted)
        outcome = await self.act(lambda: self.reconciler.apply(wanted.loaded, states, wanted.replacements()))
        self.took(outcome, wanted)
        self.findings = outcome.findings
        return outcome

    def took(self, outcome: Outcome, wanted: Wanted) -> None:
        """``wanted`` is what was carried out; verdicts that came meanwhile stay."""
        before, self.states = self.states, outcome.state.states
        if self.wanted is not None:
            self.wanted = replace(self.wanted, started=wanted.started)
        self.applied_at = time.time()
        self.changes += 1
        self.retry_at = None
        self._say_states(before, self.states, wanted)

    async def act(self, change: Callable[[], Outcome]) -> Outcome:
        """Change the data plane, and count it."""
        started = time.monotonic()
        try:
            outcome = await self.alone(change)
        except Exception:
            self.figures.applied(time.monotonic() - started, done=False)
            raise
        self.figures.applied(time.monotonic() - started)
        return outcome

    async def alone(self, change: Callable[[], Outcome]) -> Outcome:
        """Do what may change the kernel, while nothing else does."""
        async with self.busy:
            self.changing = True
            try:
                return await self.do(change)
            finally:
                self.changing = False

    async def have_states(self) -> None:
        """What checks, orders and the passing of time have made of the nodes' states."""
        wanted, states = self.effective(self.present())
        if states == self.states:
            self.retry_at = None
            return
        try:
            outcome = await self.act(lambda: self.reconciler.change_states(states))
        except TROUBLE as problem:
            self.retry_at, self.refusal = now() + RETRY, line(problem)
            self.log.add(Kind.FAILED, f"node states: {line(problem)}; tried again in {RETRY:.0f} s")
            return
        self.took(outcome, wanted)
        if outcome.unwritten:
            self.log.add(
                Kind.FAILED, f"state: {outcome.unwritten}; node states are in force, and kept in memory alone"
            )

    async def write(self, book: OrderBook) -> None:
        """Have the orders kept, then hold them."""
        await self.do(lambda: self.reconciler.write_orders(book))
        self.wanted = replace(self.present(), book=book)

    def must_exist(self, service: str, node: str | None) -> None:
        gateway = self.present().gateway
        found = gateway.service(service)
        if found is None:
            known = ", ".join(each.name for each in gateway.services)
            raise RefusedError(f"no service {service!r}; one of {known}", status=404)
        if node is not None and found.node(node) is None:
            known = ", ".join(each.name for each in found.nodes)
            raise RefusedError(f"service {service} has no node {node!r}; one of {known}", status=404)

    def _say_states(self, before: NodeStates, after: NodeStates, wanted: Wanted) -> None:
        checks = self.checks()
        for key in sorted({*before.exceptions, *after.exceptions}):
            service, node = key
            was, state = before.of(*key), after.of(*key)
            if was is state or wanted.gateway.service(service) is None:
                continue
            said = views.why(state, wanted.book.about(*key), checks.get(key, []))
            self.log.add(
                Kind.NODE_STATE,
                f"{service}/{node}: {was} -> {state}{f' ({said})' if said else ''}",
                service=service,
                node=node,
                was=str(was),
                state=str(state),
            )
        for one in wanted.gateway.services:
            disabled = one.name in wanted.book.services
            was_word = views.service_state(one, before, checks, disabled=disabled)
            word = views.service_state(one, after, checks, disabled=disabled)
            if word != was_word:
                self.log.add(
                    Kind.SERVICE_STATE, f"service {one.name}: {was_word} -> {word}", service=one.name
                )

    def checks(self) -> Mapping[Key, list[api.CheckResult]]:
        found = {
            key: [
                api.CheckResult(
                    kind=each.kind,
                    target=each.target,
                    healthy=each.healthy,
                    since=each.since,
                    said=each.said,
                    latency=each.latency,
                    changes=each.changes,
                    tried=each.tried,
                )
                for each in results
            ]
            for key, results in self.engine.results().items()
        }
        held = self.signs.held(now())
        for key in counting(self.present().gateway):
            said = str(self.signs.found.get(key, "")) or ("silent before" if key in held else "")
            passive = api.CheckResult(kind="passive", target="traffic", healthy=key not in held, said=said)
            found[key] = [*found.get(key, []), passive]
        return found
