"""The HTTP API as a Starlette application: routes, who may ask, bodies in, answers and problems out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from pointsman.api.access import ALIAS, Access, Caller, Peer
from pointsman.api.documents import Problem
from pointsman.api.metrics import Figures
from pointsman.api.openapi import PROBLEM
from pointsman.api.operator import Operator, RefusedError
from pointsman.api.route import EVENT_STREAM, JSON, LARGEST_NUMBER, PATH_VALUES, Asked, Route
from pointsman.api.routes import ROUTES
from pointsman.api.streaming import EventStream
from pointsman.config import ConfigError
from pointsman.kernel.errors import KernelError

BODY_SECONDS = 30.0
MOST_STREAMS = 64

_log = structlog.get_logger("pointsman.api")


class _ProblemError(Exception):
    def __init__(self, status: int, detail: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


def application(
    operator: Operator, access: Callable[[], Access], figures: Figures | None = None
) -> Starlette:
    """The API of this operator; ``access`` is asked anew at each request, as its tokens may be read again."""
    served = _Served(operator, access, figures or Figures())
    routes: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        routes.setdefault(route.path, {})[route.method] = route
    handlers: dict[Any, Any] = {
        _ProblemError: _known,
        RefusedError: _refused,
        ConfigError: _mistaken,
        KernelError: _by_machine,
        HTTPException: _http,
        ClientDisconnect: _left,
        Exception: _unexpected,
    }
    return Starlette(
        routes=[
            HttpRoute(path, served.endpoint(by_method), methods=list(by_method))
            for path, by_method in routes.items()
        ],
        exception_handlers=handlers,
    )


class _Served:
    def __init__(self, operator: Operator, access: Callable[[], Access], figures: Figures) -> None:
        self._operator, self._access, self._figures = operator, access, figures
        self._streams = 0
        self._adapters = {route.name: TypeAdapter(route.answers) for route in ROUTES if route.media == JSON}

    def endpoint(self, by_method: Mapping[str, Route]) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response | ASGIApp:
            route = by_method["GET" if request.method == "HEAD" else request.method]
            if request.method == "HEAD" and route.media == EVENT_STREAM:
                raise HTTPException(405, headers={"allow": "GET"})
            return await self._serve(route, request)

        return serve

    async def _serve(self, route: Route, request: Request) -> Response | ASGIApp:
        who = self._authorized(route, request)
        for name, value in request.path_params.items():
            _must_match(name, str(value))
        _known_query(request, route)
        asked = Asked(
            self._operator,
            self._figures,
            who,
            {name: str(value) for name, value in request.path_params.items()},
            _after(request, route) if route.after else 0,
            None if route.body is None else await _body(request, route.body, route.largest),
        )
        if route.media == EVENT_STREAM:
            return await self._stream(route, asked)
        answer = await route.handler(asked)
        if route.answers is None:
            return Response(status_code=204)
        headers = {"cache-control": "no-store"}
        if route.media != JSON:
            return Response(answer, media_type=route.media, headers=headers)
        content = self._adapters[route.name].dump_json(answer)
        return Response(content, media_type=JSON, headers=headers)

    def _authorized(self, route: Route, request: Request) -> str:
        """Who asks; raises a problem with 401 or 403 for who may not."""
        if route.scope is None:
            return ""
        caller = self._caller(request)
        if caller is None:
            raise _ProblemError(401, "a token is needed: Authorization: Bearer TOKEN")
        if not caller.may(route.scope):
            _log.warning("refused", who=caller.who, route=route.name, reason=f"scope {caller.scope}")
            raise _ProblemError(403, f"{caller.who} may {caller.scope}; this takes the scope {route.scope}")
        return caller.who

    def _caller(self, request: Request) -> Caller | None:
        peer = request.scope.get("state", {}).get("peer")
        if isinstance(peer, Peer):
            return self._access().of_peer(peer, request.headers.get(ALIAS, ""))
        return self._access().of_authorization(request.headers.get("authorization"))

    async def _stream(self, route: Route, asked: Asked) -> ASGIApp:
        if self._streams >= MOST_STREAMS:
            raise _ProblemError(503, f"{MOST_STREAMS} callers follow the events already")
        stream = EventStream(await route.handler(asked))

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self._streams += 1
            try:
                await stream(scope, receive, send)
            finally:
                self._streams -= 1

        return counted


def _must_match(name: str, value: str) -> None:
    schema = PATH_VALUES[name].schema
    if schema["type"] == "integer":
        good = re.fullmatch("[1-9][0-9]{0,15}", value) and int(value) <= LARGEST_NUMBER
    else:
        good = re.search(schema["pattern"], value) and "\n" not in value
    if not good:
        raise _ProblemError(404, f"no such {name}")


def _known_query(request: Request, route: Route) -> None:
    known = ["after"] if route.after else []
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise _ProblemError(
                422, f"unknown or repeated in the query; known here: {', '.join(known) or 'nothing'}"
            )
        known.remove(name)


def _after(request: Request, route: Route) -> int:
    """The query's number; for the stream its reader's last one, which goes before it."""
    after = _number("after", request.query_params.get("after", "0"))
    last = request.headers.get("last-event-id") if route.media == EVENT_STREAM else None
    return after if last is None else _number("last-event-id", last)


def _number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,16}", text) or int(text) > LARGEST_NUMBER:
        raise _ProblemError(422, f"{name}: a whole number, 0..{LARGEST_NUMBER}")
    return int(text)


async def _body(request: Request, model: type[BaseModel], largest: int) -> BaseModel:
    """Read and check the body; raises a problem with 400, 408, 413, 415 or 422."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise _ProblemError(415, f"content-type: {JSON}")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > largest:
                    raise _ProblemError(413, f"at most {largest} bytes")
                parts.append(part)
    except TimeoutError:
        raise _ProblemError(408, f"the body took longer than {BODY_SECONDS:.0f} s") from None
    try:
        return model.model_validate_json(b"".join(parts))
    except ValidationError as wrong:
        lines = wrong.errors(include_url=False, include_input=False, include_context=False)
        errors = tuple(f"{'.'.join(map(str, line['loc'])) or 'body'}: {line['msg']}" for line in lines[:20])
        if any(line["type"] == "json_invalid" for line in lines):
            raise _ProblemError(400, "the body is no JSON", errors) from None
        raise _ProblemError(422, "the body is not what is described", errors) from None


def _problem(
    status: int, detail: str, errors: tuple[str, ...] = (), headers: Mapping[str, str] | None = None
) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
    return Response(problem.model_dump_json(), status, dict(headers or {}), PROBLEM)


async def _known(_: Request, problem: _ProblemError) -> Response:
    headers = {"www-authenticate": "Bearer"} if problem.status == 401 else {}
    return _problem(problem.status, problem.detail, problem.errors, headers)


async def _refused(_: Request, refusal: RefusedError) -> Response:
    return _problem(refusal.status, refusal.detail, refusal.errors)


async def _mistaken(_: Request, mistakes: ConfigError) -> Response:
    return _problem(422, "the configuration has mistakes", tuple(str(mistakes).splitlines()))


async def _by_machine(_: Request, refusal: KernelError) -> Response:
    return _problem(500, str(refusal))


async def _http(request: Request, problem: HTTPException) -> Response:
    return _problem(problem.status_code, f"{request.method} {request.url.path}", (), problem.headers)


async def _left(_: Request, __: Exception) -> Response:
    return _problem(400, "the caller left")


async def _unexpected(_: Request, problem: Exception) -> Response:
    _log.error("unexpected", error=type(problem).__name__)
    return _problem(500, "the daemon could not do that; its log says more")
