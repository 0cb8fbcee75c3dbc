"""One thing that can be asked over HTTP, with its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from pointsman.api.access import Scope
from pointsman.api.metrics import Figures
from pointsman.api.operator import Operator

SERVICE = "^[a-z][a-z0-9-]{0,30}$"
NODE = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
LARGEST_NUMBER = (1 << 53) - 1
LARGEST_BODY = 64 << 10
LARGEST_CONFIGURATION = 128 << 20
"""As JSON: 64 MiB of text, in which lines' ends and quotes take two bytes."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class PathValue:
    """A part of a path that is a name or a number."""

    says: str
    schema: Mapping[str, Any]


PATH_VALUES: Mapping[str, PathValue] = MappingProxyType(
    {
        "service": PathValue("The service's name.", {"type": "string", "pattern": SERVICE}),
        "node": PathValue("The node's name.", {"type": "string", "pattern": NODE}),
        "number": PathValue(
            "The number that history has it under.",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_NUMBER},
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: who asks, the names in its path, its query's ``after``, and its body as the route's model."""

    operator: Operator
    figures: Figures
    who: str
    path: Mapping[str, str]
    after: int = 0
    body: Any = None

    @property
    def service(self) -> str:
        return self.path["service"]

    @property
    def node(self) -> str:
        return self.path["node"]

    @property
    def number(self) -> int:
        return int(self.path["number"])


@dataclass(frozen=True, slots=True)
class Route:
    """``answers`` is the answer's type, None for no content; of media other than JSON, str or what is streamed.

    ``scope`` None: anybody may ask. ``refusals`` are the statuses beside those that follow from the rest.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Asked], Awaitable[Any]]
    answers: Any
    scope: Scope | None = Scope.READ
    says: str = ""
    body: type[BaseModel] | None = None
    largest: int = LARGEST_BODY
    after: bool = False
    refusals: tuple[int, ...] = ()
    media: str = JSON

    @property
    def path_values(self) -> tuple[str, ...]:
        """The names between braces in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))
