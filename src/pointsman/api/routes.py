"""Everything that can be asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from pointsman import __version__
from pointsman.api.access import Scope
from pointsman.api.documents import (
    Alive,
    Applied,
    ApplyRequest,
    CounterRow,
    Drained,
    Event,
    FlowRow,
    Kept,
    Order,
    OrderRequest,
    ReplaceRequest,
    Service,
    Status,
    counter_rows,
)
from pointsman.api.metrics import Seen, exposition
from pointsman.api.openapi import describe
from pointsman.api.operator import RefusedError
from pointsman.api.route import EVENT_STREAM, LARGEST_CONFIGURATION, METRICS, TEXT, Asked, Route


async def _alive(_: Asked) -> Alive:
    return Alive(version=__version__)


async def _status(asked: Asked) -> Status:
    return await asked.operator.status()


async def _service(asked: Asked) -> Service:
    for service in (await asked.operator.status()).services:
        if service.name == asked.service:
            return service
    raise RefusedError(f"no service {asked.service}", status=404)


async def _counters(asked: Asked) -> list[CounterRow]:
    return counter_rows(await asked.operator.status())


async def _flows(asked: Asked) -> list[FlowRow]:
    return await asked.operator.flows()


async def _orders(asked: Asked) -> list[Order]:
    return await asked.operator.orders()


async def _history(asked: Asked) -> list[Kept]:
    return await asked.operator.history()


async def _configuration(asked: Asked) -> str:
    return await asked.operator.configuration()


async def _events(asked: Asked) -> list[Event]:
    return await asked.operator.events(asked.after)


async def _stream(asked: Asked) -> AsyncIterator[Event]:
    after = asked.after
    # Numbers begin anew with the daemon: one that it never gave is from before.
    if after and not await asked.operator.events(after - 1):
        after = 0
    return asked.operator.follow(after)


async def _metrics(asked: Asked) -> str:
    seen = Seen(await asked.operator.status(), tuple(await asked.operator.orders()))
    return await run_in_threadpool(exposition, seen, asked.figures)


async def _description(_: Asked) -> dict[str, Any]:
    return describe(ROUTES)


async def _drained(asked: Asked) -> Drained:
    return await asked.operator.drained(asked.service, asked.node)


async def _order_node(asked: Asked) -> Order:
    return await asked.operator.order(asked.who, asked.service, asked.node, asked.body)


async def _order_service(asked: Asked) -> Order:
    return await asked.operator.order(asked.who, asked.service, None, asked.body)


async def _replace(asked: Asked) -> Applied:
    return await asked.operator.replace(asked.who, asked.service, asked.node, asked.body)


async def _apply(asked: Asked) -> Applied:
    return await asked.operator.apply(asked.who, asked.body)


async def _reload(asked: Asked) -> Applied:
    return await asked.operator.reload(asked.who)


async def _confirm(asked: Asked) -> None:
    await asked.operator.confirm(asked.who)


async def _restore(asked: Asked) -> Applied:
    return await asked.operator.restore(asked.who, asked.number)


_OPERATE = Scope.OPERATE

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/openapi.json",
        "description",
        "This description",
        _description,
        dict[str, Any],
        None,
    ),
    Route("GET", "/metrics", "metrics", "Metrics for Prometheus", _metrics, str, media=METRICS),
    Route("GET", "/v1/healthz", "alive", "Whether the daemon answers", _alive, Alive, None),
    Route("GET", "/v1/status", "status", "Services, nodes, states with reasons, rates", _status, Status),
    Route(
        "GET",
        "/v1/services/{service}",
        "service",
        "One service of the status",
        _service,
        Service,
        refusals=(404,),
    ),
    Route("GET", "/v1/counters", "counters", "Every counter, a row for each", _counters, list[CounterRow]),
    Route(
        "GET",
        "/v1/flows",
        "flows",
        "How many flows are remembered, by node and kind",
        _flows,
        list[FlowRow],
        says="They are counted anew every five seconds at most. On xdp, services that share a memory of flows and a "
        "node have one row together.",
    ),
    Route("GET", "/v1/orders", "orders", "The orders that hold", _orders, list[Order]),
    Route("GET", "/v1/history", "history", "The configurations that were in force", _history, list[Kept]),
    Route(
        "GET",
        "/v1/configuration",
        "configuration",
        "The text that is in force",
        _configuration,
        str,
        _OPERATE,
        says="It may hold the site's hash_seed, so reading it takes the scope operate.",
        media=TEXT,
    ),
    Route(
        "GET",
        "/v1/events",
        "events",
        "What happened",
        _events,
        list[Event],
        says="Numbers begin anew when the daemon starts; status says when that was.",
        after=True,
    ),
    Route(
        "GET",
        "/v1/events/stream",
        "stream",
        "What happened and what happens (server-sent events)",
        _stream,
        Event,
        says="Each event's data is an event, its id the event's number. Last-Event-ID goes before after. A caller "
        "that does not read for a thousand events is disconnected.",
        after=True,
        media=EVENT_STREAM,
        refusals=(503,),
    ),
    Route(
        "GET",
        "/v1/nodes/{service}/{node}/drained",
        "drained",
        "What still names a draining node",
        _drained,
        Drained,
        refusals=(404, 409),
    ),
    Route(
        "POST",
        "/v1/nodes/{service}/{node}/order",
        "order_node",
        "Drain, disable or enable a node",
        _order_node,
        Order,
        _OPERATE,
        body=OrderRequest,
        refusals=(404, 409),
    ),
    Route(
        "POST",
        "/v1/services/{service}/order",
        "order_service",
        "Drain, disable or enable a service",
        _order_service,
        Order,
        _OPERATE,
        body=OrderRequest,
        refusals=(404, 409),
    ),
    Route(
        "POST",
        "/v1/nodes/{service}/{node}/replace",
        "replace",
        "Have another machine take over a node's id",
        _replace,
        Applied,
        _OPERATE,
        body=ReplaceRequest,
        refusals=(404, 409),
    ),
    Route(
        "POST",
        "/v1/apply",
        "apply",
        "Put a configuration in force",
        _apply,
        Applied,
        _OPERATE,
        body=ApplyRequest,
        largest=LARGEST_CONFIGURATION,
        refusals=(409,),
    ),
    Route(
        "POST",
        "/v1/reload",
        "reload",
        "Read the daemon's file again",
        _reload,
        Applied,
        _OPERATE,
        refusals=(409, 422),
    ),
    Route(
        "POST",
        "/v1/confirm",
        "confirm",
        "Keep a configuration that would roll back",
        _confirm,
        None,
        _OPERATE,
        refusals=(409,),
    ),
    Route(
        "POST",
        "/v1/history/{number}/restore",
        "restore",
        "Put an earlier configuration in force",
        _restore,
        Applied,
        _OPERATE,
        refusals=(404, 409, 422),
    ),
)
"""All that there is: what is not described here is not served."""
