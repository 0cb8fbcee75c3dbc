"""Ask a running daemon over its unix socket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from pointsman.api.access import ALIAS
from pointsman.api.documents import (
    Applied,
    ApplyRequest,
    CounterRow,
    Drained,
    Event,
    FlowRow,
    Kept,
    Order,
    OrderRequest,
    Problem,
    ReplaceRequest,
    Service,
    Status,
)
from pointsman.api.place import socket_to_ask
from pointsman.api.unix_socket import answers
from pointsman.kernel.errors import KernelError

if TYPE_CHECKING:
    import httpx

SECONDS = 30.0
SECONDS_TO_APPLY = 600.0
SECONDS_OF_SILENCE = 60.0
"""Of a stream: four times its keep-alive."""
MISTAKES = (400, 404, 422)

Answer = TypeVar("Answer")


class DaemonRefusedError(KernelError):
    """What was asked is refused; ``is_mistake``: because of what was asked, not of how things are."""

    def __init__(self, problem: Problem) -> None:
        lines = [f"the daemon refused: {problem.detail or problem.title}", *problem.errors]
        super().__init__("\n".join(lines))
        self.status = problem.status
        self.is_mistake = problem.status in MISTAKES


class DaemonGoneError(KernelError):
    """The daemon ended, or its answer broke off."""


class Client:
    """Each method is a request, and raises DaemonRefusedError or DaemonGoneError."""

    def __init__(self, path: Path) -> None:
        import httpx  # takes a tenth of a second, which only those pay who have a daemon to ask

        self.path = path
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url="http://pointsman",
            timeout=SECONDS,
            headers=_acting_for(),
        )

    def close(self) -> None:
        self._http.close()

    def status(self) -> Status:
        return self._get("status", Status)

    def service(self, name: str) -> Service:
        return self._get(f"services/{_name(name)}", Service)

    def counters(self) -> list[CounterRow]:
        return self._get("counters", list[CounterRow])

    def flows(self) -> list[FlowRow]:
        return self._get("flows", list[FlowRow])

    def orders(self) -> list[Order]:
        return self._get("orders", list[Order])

    def history(self) -> list[Kept]:
        return self._get("history", list[Kept])

    def configuration(self) -> str:
        return self._ask("GET", "configuration").text

    def events(self, after: int = 0) -> list[Event]:
        return self._get(f"events?after={after}", list[Event])

    def drained(self, service: str, node: str) -> Drained:
        return self._get(f"{_node(service, node)}/drained", Drained)

    def order(self, service: str, node: str | None, order: OrderRequest) -> Order:
        """Give an order about a node, or with None about the whole service."""
        what = f"services/{_name(service)}" if node is None else _node(service, node)
        return self._post(f"{what}/order", order, Order)

    def replace(self, service: str, node: str, by: ReplaceRequest) -> Applied:
        return self._post(f"{_node(service, node)}/replace", by, Applied)

    def apply(self, asked: ApplyRequest) -> Applied:
        return self._post("apply", asked, Applied)

    def reload(self) -> Applied:
        return self._post("reload", None, Applied)

    def confirm(self) -> None:
        self._ask("POST", "confirm")

    def restore(self, number: int) -> Applied:
        return self._post(f"history/{number}/restore", None, Applied)

    def follow(self, after: int = 0) -> Iterator[Event]:
        """Events from now on, and those kept with a number above ``after``, until the daemon stops."""
        with self._reaching():
            headers = {"last-event-id": str(after)} if after else {}
            asked = self._http.stream("GET", "/v1/events/stream", headers=headers, timeout=SECONDS_OF_SILENCE)
            with asked as response:
                if response.status_code != 200:
                    response.read()
                    raise _refusal(response)
                yield from read_events(response.iter_lines())

    def _get(self, what: str, answer: type[Answer]) -> Answer:
        return _understood(self._ask("GET", what), answer)

    def _post(self, what: str, body: BaseModel | None, answer: type[Answer]) -> Answer:
        return _understood(self._ask("POST", what, body), answer)

    def _ask(self, method: str, what: str, body: BaseModel | None = None) -> httpx.Response:
        content = None if body is None else body.model_dump_json()
        headers = {} if body is None else {"content-type": "application/json"}
        timeout = SECONDS if method == "GET" else SECONDS_TO_APPLY
        with self._reaching():
            response = self._http.request(
                method, f"/v1/{what}", content=content, headers=headers, timeout=timeout
            )
        if response.is_error:
            raise _refusal(response)
        return response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.TimeoutException:
            raise DaemonGoneError(f"the daemon at {self.path} does not answer") from None
        except httpx.TransportError as problem:
            raise DaemonGoneError(f"the daemon at {self.path} cannot be asked: {problem}") from None


def daemon_here() -> Client | None:
    """The daemon of this network namespace, None where none answers; raises KernelError for who may not ask."""
    path = socket_to_ask()
    try:
        return Client(path) if answers(path) else None
    except PermissionError:
        raise KernelError(
            f"cannot ask the daemon at {path}: be root, or a member of the socket's group"
        ) from None
    except OSError as problem:
        raise KernelError(f"cannot ask at {path}: {problem.strerror or problem}") from None


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Events from the lines of a stream of server-sent events; comments and other fields are left out."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield _event("\n".join(data))
            data = []


def _event(text: str) -> Event:
    try:
        return Event.model_validate_json(text)
    except ValidationError:
        raise DaemonGoneError("the daemon told an event that this version does not understand") from None


def _understood(response: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        return TypeAdapter(answer).validate_json(response.content)
    except ValidationError:
        raise DaemonGoneError("the daemon's answer is not this version's; restart it") from None


def _refusal(response: httpx.Response) -> DaemonRefusedError:
    try:
        return DaemonRefusedError(Problem.model_validate_json(response.content))
    except ValidationError:
        return DaemonRefusedError(Problem(title=response.reason_phrase, status=response.status_code))


def _name(text: str) -> str:
    """A name as a part of a path; what cannot be a name is refused before it changes the path."""
    if not text or not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in text):
        problem = Problem(title="Not Found", status=404, detail=f"{json.dumps(text)} is no name")
        raise DaemonRefusedError(problem)
    return text


def _node(service: str, node: str) -> str:
    return f"nodes/{_name(service)}/{_name(node)}"


def _acting_for() -> dict[str, Any]:
    alias = os.environ.get("SUDO_USER") or os.environ.get("SUDO_UID") or ""
    return {ALIAS: alias} if alias and alias.isascii() and alias.isprintable() else {}
