"""The loop: something changed, so compute what is wanted, and have the smallest change made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pointsman import __version__
from pointsman.api import documents as api
from pointsman.api.metrics import Figures
from pointsman.api.operator import RefusedError
from pointsman.config import ConfigError, Loaded
from pointsman.daemon import views
from pointsman.daemon.configurations import Configurations
from pointsman.daemon.draining import rate_of
from pointsman.daemon.events import EventLog, Kind
from pointsman.daemon.in_force import InForce
from pointsman.daemon.looking import Looking
from pointsman.daemon.orders import Orders
from pointsman.daemon.reconciler import Outcome, Reconciler
from pointsman.daemon.repairs import Repairs
from pointsman.daemon.sampling import Sampling
from pointsman.daemon.steps import Step, next_due, take
from pointsman.daemon.wanted import Wanted, adopted, last_known
from pointsman.daemon.words import refusing, tell
from pointsman.health.engine import Change, Engine, Untried
from pointsman.kernel.errors import KernelError
from pointsman.kernel.watch import Watch
from pointsman.model import Api, CheckKind
from pointsman.model.orders import OrderBook
from pointsman.plan.effective import next_step, resumed
from pointsman.plan.verdicts import Verdict
from pointsman.reconcile.prepare import FatalFindingsError
from pointsman.reconcile.state import now

Result = TypeVar("Result")


class Daemon:
    """An api.operator.Operator. All methods are of the loop's thread; the kernel's work is done on one other."""

    def __init__(self, file: Path, reconciler: Reconciler | None = None) -> None:
        self.log = EventLog(time.time, tell)
        self.engine = Engine(self._report, tell_untried=self._untried)
        self.figures = Figures()
        self.engine.add_observer(self._checked)
        self._started = time.time()
        self._in_force = InForce(reconciler or Reconciler(), self.log, self.engine, self.figures)
        self._configurations = Configurations(file, self._in_force)
        self._orders = Orders(self._in_force)
        self._looking = Looking(self._in_force)
        self._repairs = Repairs(self._in_force)
        self._sampling = Sampling(self._in_force, self._looking)
        self._watch: Watch | None = None
        self._has_started = False
        self._carrying: set[asyncio.Task[Any]] = set()
        self.when_reloaded: Callable[[], None] = lambda: None
        """Called behind every reload, also one that is refused."""
        self._steps = (
            Step("going back", lambda: self._configurations.ends_at, self._configurations.end_trial),
            Step("ending orders", lambda: min(self._orders.ends_at, default=None), self._orders.end),
            Step("signs", lambda: self._looking.signs_at, self._looking.count_signs),
            Step("node states", self._states_due_at, self._have_states),
            Step("repairs", lambda: self._repairs.due_at, self._repair),
            Step("counters", lambda: self._looking.feed_at, self._looking.feed),
        )

    # the loop

    async def start(self) -> None:
        """Take over what stands, and have it be what the file says.

        Raise ConfigError, KernelError, FatalFindingsError.
        """
        in_force = self._in_force
        for told in await in_force.do(in_force.reconciler.set_aside):
            self.log.add(Kind.FAILED, told)
        found = await in_force.do(in_force.reconciler.found)
        book = await in_force.do(in_force.reconciler.orders)
        self._configurations.trial = await in_force.do(in_force.reconciler.trial)
        who = "an order before the daemon"
        if found is not None:
            book = adopted(found.states, book, who, time.time())
            in_force.states = found.states
        # From here on, so that nothing is missed that others do behind the first look.
        self._watch = await in_force.do(in_force.reconciler.watch)
        loaded = await self._configurations.first(found)
        try:
            outcome = await self._begin(loaded, book)
        except (ConfigError, FatalFindingsError, KernelError) as problem:
            last = await self._configurations.instead(found, problem, loaded)
            if last is None:
                raise
            loaded = last
            outcome = await self._begin(loaded, book)
        self.engine.want(in_force.gateway)
        await self._configurations.keep(loaded, "the start")
        self.log.add(
            Kind.STARTED,
            f"{loaded.filename} on {outcome.state.dataplane}",
            changes=outcome.changes,
            version=__version__,
        )
        self._has_started = True

    async def _begin(self, loaded: Loaded, book: OrderBook) -> Outcome:
        in_force = self._in_force
        started = resumed(loaded.gateway, in_force.states, now())
        in_force.wanted = Wanted(loaded, book, last_known(in_force.states), started).with_loaded(loaded)
        return await in_force.apply(in_force.wanted)

    async def run(self) -> None:
        """Keep it so, until cancelled; to be started before."""
        watch = self._watch
        if watch is None:
            raise RuntimeError("not started")
        loop = asyncio.get_running_loop()
        for handle in watch.sockets:
            loop.add_reader(handle, self._repairs.heard, watch)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.engine.run())
                tasks.create_task(self._loop())
                tasks.create_task(self._sampling.run())
        finally:
            for handle in watch.sockets:
                loop.remove_reader(handle)

    async def close(self) -> None:
        if self._carrying:
            await asyncio.wait(self._carrying)
        if self._has_started:
            self.log.add(Kind.STOPPED, "forwarding goes on")
        self.log.close()
        await self._looking.census.settled()
        await self._sampling.close()
        self._in_force.close()
        if self._watch is not None:
            self._watch.close()

    async def alive(self) -> None:
        """Return once the thread for the kernel has got round to it: what a watchdog wants to know."""
        await self._in_force.do(lambda: None)

    def _checked(self, service: str, kind: CheckKind, ok: bool | None, seconds: float) -> None:  # noqa: FBT001
        self.figures.checked(service, kind, passed=ok, latency=seconds if ok else None)

    def _untried(self, one: Untried) -> None:
        said = "tried again" if one.reason is None else f"{one.reason}; its verdict stays as it was"
        self.log.add(
            Kind.UNTRIED,
            f"{one.service}/{one.node}: {one.check}: {said}",
            service=one.service,
            node=one.node,
        )

    def _report(self, change: Change) -> None:
        wanted = self._in_force.wanted
        if wanted is None or wanted.gateway.service(change.service) is None:
            return
        key = change.service, change.node
        self._in_force.wanted = wanted.with_verdict(key, healthy=change.healthy)
        self._in_force.wake.set()

    async def _loop(self) -> None:
        wake = self._in_force.wake
        while True:
            # Not wait_for(), which loses a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_due(self._steps) - now())):
                    await wake.wait()
            wake.clear()
            await take(self._steps, self.log, now)

    def _states_due_at(self) -> float | None:
        in_force = self._in_force
        if in_force.retry_at is not None:
            return in_force.retry_at
        wanted = in_force.present()
        return next_step(wanted.gateway, in_force.states, wanted.started, now())

    async def _have_states(self) -> None:
        if self._in_force.retry_at is None or now() >= self._in_force.retry_at:
            async with self._in_force.turn:
                await self._in_force.have_states()

    async def _repair(self) -> None:
        if self._watch is not None and self._repairs.is_due():
            async with self._in_force.turn:
                await self._repairs.look_for_damage(self._watch)

    @property
    def is_on_trial(self) -> bool:
        return self._configurations.trial is not None

    @property
    def api_settings(self) -> Api:
        """Where the API is to be served."""
        return self._in_force.present().gateway.api

    # api.operator.Operator

    async def status(self) -> api.Status:
        wanted = self._in_force.present()
        with refusing():
            seen = await self._looking.look()
        if seen is None:
            raise RefusedError("nothing of ours stands in the kernel; it is being put back", status=503)
        await self._looking.census.refresh()
        checks = self._in_force.checks()
        trial = self._configurations.trial
        return api.Status(
            gateway=wanted.gateway.name,
            filename=wanted.loaded.filename,
            dataplane=seen.state.dataplane,
            dataplane_reason=seen.state.dataplane_reason,
            version=__version__,
            started=self._started,
            applied=self._in_force.applied_at,
            stale=self._configurations.stale,
            repairs=self._repairs.count,
            pending=None if trial is None else api.Pending(until=trial.until, back_to=trial.back_to),
            counters=views.owners_of(seen.counts).get(("", ""), {}),
            services=views.services_of(
                seen,
                wanted.book,
                checks,
                self._looking.rates.found,
                self._looking.census.of,
                self._in_force.signs.found,
            ),
            interfaces=[
                api.Interface(name=port.name, mode=port.mode, reason=port.why) for port in seen.attached
            ],
            beside=seen.beside,
            findings=[
                *self._in_force.findings,
                *([problem] if (problem := self._looking.census.problem) else []),
            ],
            guards=views.guards_of(seen),
            leaving=[api.Leaving(service=each.service, node=each.node.name) for each in seen.inputs.leaving],
        )

    async def _whole(self, change: Coroutine[Any, Any, Result]) -> Result:
        """Carry a change to its end, also where who asked for it is gone by then."""
        task = asyncio.create_task(change)
        self._carrying.add(task)
        task.add_done_callback(self._carried)
        return await asyncio.shield(task)

    def _carried(self, task: asyncio.Task[Any]) -> None:
        self._carrying.discard(task)
        if not task.cancelled():
            task.exception()  # told to who asked, if he is there still

    async def order(self, who: str, service: str, node: str | None, order: api.OrderRequest) -> api.Order:
        return await self._whole(self._orders.order(who, service, node, order))

    async def replace(self, who: str, service: str, node: str, by: api.ReplaceRequest) -> api.Applied:
        return await self._whole(self._orders.replace(who, service, node, by))

    async def drained(self, service: str, node: str) -> api.Drained:
        self._in_force.must_exist(service, node)
        with refusing():
            await self._looking.look()
        await self._looking.census.refresh()
        rates = self._looking.rates.found
        order = self._in_force.present().book.about(service, node)
        return api.Drained(
            service=service,
            node=node,
            state=self._in_force.states.of(service, node),
            cid_per_second=round(rate_of(rates, service, node, Verdict.CID), 2),
            flow_per_second=round(rate_of(rates, service, node, Verdict.FLOW), 2),
            flows=self._looking.census.of(service, node),
            devices=self._sampling.devices.estimate(service, node, now()),
            quiet=round(self._looking.draining.quiet(service, node, now()), 1),
            order=None if order is None else views.order_document(order),
        )

    async def flows(self) -> list[api.FlowRow]:
        census = self._looking.census
        await census.refresh()
        await census.settled()
        if census.problem or census.counts is None:
            raise RefusedError(census.problem or "the flows are not counted yet", status=500)
        return [views.flow_row(one) for one in census.counts]

    async def orders(self) -> list[api.Order]:
        return [views.order_document(order) for order in self._in_force.present().book.orders]

    async def apply(self, who: str, asked: api.ApplyRequest) -> api.Applied:
        return await self._whole(self._configurations.apply(who, asked))

    async def reload(self, who: str) -> api.Applied:
        try:
            return await self._whole(self._configurations.reload(who))
        finally:
            self.when_reloaded()

    async def confirm(self, who: str) -> None:
        await self._whole(self._configurations.confirm(who))

    async def history(self) -> list[api.Kept]:
        return await self._configurations.history()

    async def restore(self, who: str, number: int) -> api.Applied:
        return await self._whole(self._configurations.restore(who, number))

    async def configuration(self) -> str:
        return self._in_force.present().loaded.text

    async def events(self, after: int) -> list[api.Event]:
        return self.log.after(after)

    def follow(self, after: int) -> AsyncIterator[api.Event]:
        return self.log.follow(after)
