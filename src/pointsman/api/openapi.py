"""The OpenAPI 3.1 description, made from the routes and the models."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from pointsman import __version__
from pointsman.api.access import Scope
from pointsman.api.documents import Problem
from pointsman.api.route import EVENT_STREAM, JSON, LARGEST_NUMBER, PATH_VALUES, Route

PROBLEM = "application/problem+json"
_REFERENCES = "#/components/schemas/{model}"
_NUMBER = {"type": "integer", "minimum": 0, "maximum": LARGEST_NUMBER}
_ABOUT = (
    "What can be asked of a running daemon. On the unix socket the caller is who the kernel says it is; over TCP "
    "every call but two shows a token. Times are seconds since the epoch, durations are seconds."
)


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of exactly these routes."""
    routes = tuple(routes)
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pointsman",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Over TCP: a token of the scope read or operate.",
                }
            },
        },
    }


_Schemas = dict[tuple[str, str], dict[str, Any]]
"""By the route's name and what of it: "answer", "body"; and the problem."""


def _schemas(routes: tuple[Route, ...]) -> tuple[_Schemas, dict[str, Any]]:
    inputs: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = [
        (("", "problem"), "serialization", TypeAdapter(Problem))
    ]
    for route in routes:
        if route.answers is not None:
            inputs.append(((route.name, "answer"), "serialization", TypeAdapter(route.answers)))
        if route.body is not None:
            inputs.append(((route.name, "body"), "validation", TypeAdapter(route.body)))
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCES)
    return {name: schema for (name, _), schema in found.items()}, definitions.get("$defs", {})


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": _responses(route, schemas),
    }
    says = [route.says] if route.says else []
    if route.scope is not None:
        operation["security"] = [{"token": []}]
        says.append(f"Scope: {route.scope}.")
    else:
        operation["security"] = []
    if says:
        operation["description"] = " ".join(says)
    if parameters := list(_parameters(route)):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schemas[route.name, "body"]}},
        }
    return operation


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in route.path_values:
        value = PATH_VALUES[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": value.says,
            "schema": dict(value.schema),
        }
    if route.after:
        yield {
            "name": "after",
            "in": "query",
            "description": "Only events with a higher number.",
            "schema": {**_NUMBER, "default": 0},
        }
    if route.media == EVENT_STREAM:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event that was read.",
            "schema": _NUMBER,
        }


def statuses(route: Route) -> list[int]:
    """The statuses that the route refuses with."""
    found = set(route.refusals) | {422, 500}
    if route.scope is not None:
        found.add(401)
    if route.scope is Scope.OPERATE:
        found.add(403)
    if route.path_values:
        found.add(404)
    if route.body is not None:
        found |= {400, 408, 413, 415, 422}
    return sorted(found)


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    problem = {PROBLEM: {"schema": schemas["", "problem"]}}
    if route.answers is None:
        responses: dict[str, Any] = {"204": {"description": "Done."}}
    else:
        media = route.media.partition(";")[0]
        answer = schemas[route.name, "answer"]
        if route.media == EVENT_STREAM:
            answer = _each_event(answer)
        responses = {"200": {"description": "The answer.", "content": {media: {"schema": answer}}}}
    for status in statuses(route):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses


def _each_event(data: dict[str, Any]) -> dict[str, Any]:
    """One event of a stream, as readers of server-sent events have it."""
    return {
        "type": "object",
        "description": "Each event of the stream.",
        "properties": {
            "id": {"type": "string", "description": "The event's number."},
            "event": {"type": "string", "description": "The event's kind."},
            "data": {"type": "string", "contentMediaType": JSON, "contentSchema": data},
        },
        "required": ["data"],
    }
