"""Operators' orders: about nodes and services, for a time or until the next one."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from pointsman.api import documents as api
from pointsman.api.operator import RefusedError
from pointsman.daemon.events import Kind
from pointsman.daemon.in_force import InForce
from pointsman.daemon.wanted import addresses_of
from pointsman.daemon.words import TROUBLE, line, refusing
from pointsman.kernel.errors import KernelError
from pointsman.model.orders import Order, OrderBook, Replacement, Verb


class Orders:
    """An order is written down before it is carried out, so that it outlives the daemon."""

    def __init__(self, in_force: InForce) -> None:
        self._in_force, self._log = in_force, in_force.log

    @property
    def ends_at(self) -> list[float]:
        """When orders end, on the clock of reconcile.state.now()."""
        every, epoch = self._in_force.present().book.orders, self._in_force.epoch
        return [order.until - epoch for order in every if order.until is not None]

    async def end(self) -> None:
        """End those whose time is over."""
        async with self._in_force.turn:
            await self._end()

    async def _end(self) -> None:
        in_force, time_now = self._in_force, self._in_force.date()
        for order in in_force.present().book.orders:
            if order.until is None or order.until > time_now:
                continue
            about = f"{order.service}/{order.node}" if order.node else order.service
            book = in_force.present().book.without(order.service, order.node)
            in_force.wanted = replace(in_force.present(), book=book)
            self._log.add(
                Kind.ORDER_ENDED,
                f"{about}: the time of {order.who}'s order ({order.verb}) is over",
                service=order.service,
                node=order.node or "",
            )
            try:
                await in_force.write(book)
            except KernelError as problem:
                # It is over by its own date, for the next daemon as well.
                self._log.add(Kind.FAILED, f"orders: {problem}; written with the next order")

    async def order(self, who: str, service: str, node: str | None, order: api.OrderRequest) -> api.Order:
        with refusing():
            async with self._in_force.turn:
                return await self._order(who, service, node, order)

    async def _order(self, who: str, service: str, node: str | None, order: api.OrderRequest) -> api.Order:
        wanted = self._in_force.present()
        self._in_force.must_exist(service, node)
        if node is None and order.verb is api.Verb.DRAIN:
            raise RefusedError("a service is disabled or enabled; drain its nodes one by one", status=422)
        time_now = self._in_force.date()
        until = None if order.seconds is None else time_now + order.seconds
        if order.verb is api.Verb.ENABLE:
            book = wanted.book.without(service, node)
        else:
            verb = Verb(str(order.verb))
            book = wanted.book.with_order(Order(service, node, verb, who, time_now, order.reason, until))
        await self._in_force.write(book)
        about = f"{service}/{node}" if node else f"service {service}"
        for_time = "" if order.seconds is None else f" for {order.seconds:.0f} s"
        self._log.add(
            Kind.ORDER,
            f"{about}: {order.verb}{for_time}{f': {order.reason}' if order.reason else ''}",
            service=service,
            node=node or "",
            who=who,
        )
        await self._in_force.have_states()
        if self._in_force.retry_at is not None:
            raise RefusedError(
                f"the order is noted, but not in force, and tried again: {self._in_force.refusal}", status=500
            )
        self._in_force.wake.set()  # when it ends may be what comes next
        return api.Order(
            service=service,
            node=node,
            verb=order.verb,
            who=who,
            since=time_now,
            reason=order.reason,
            until=until,
        )

    async def replace(self, who: str, service: str, node: str, by: api.ReplaceRequest) -> api.Applied:
        with refusing():
            async with self._in_force.turn:
                return await self._replace(who, service, node, by)

    async def _replace(self, who: str, service: str, node: str, by: api.ReplaceRequest) -> api.Applied:
        wanted = self._in_force.present()
        self._in_force.must_exist(service, node)
        instead_of = addresses_of(wanted.gateway, service, node)
        new = Replacement(service, node, tuple(by.address), instead_of, who, time.time(), by.reason)
        book = wanted.book.with_replacement(new)
        if new.addresses == instead_of:
            rest = (each for each in book.replacements if each is not new)
            book = book.keeping(rest)
        candidate = replace(wanted, book=book)
        try:
            outcome = await self._in_force.apply(candidate)
            await self._keep(book)
        except TROUBLE as problem:
            self._log.add(Kind.REFUSED, f"{service}/{node}: {line(problem)}", who=who)
            raise
        self._in_force.engine.want(self._in_force.gateway)
        self._log.add(
            Kind.ORDER,
            f"{service}/{node}: replaced by {', '.join(by.address)}{f': {by.reason}' if by.reason else ''}",
            service=service,
            node=node,
            who=who,
        )
        return api.Applied(changes=outcome.changes, warnings=outcome.findings)

    async def _keep(self, book: OrderBook) -> None:
        """Write down what is carried out already; where that cannot be, undo it, as the next start would."""
        try:
            await self._in_force.write(book)
        except KernelError:
            with suppress(*TROUBLE):
                await self._in_force.apply(self._in_force.present())
            raise
