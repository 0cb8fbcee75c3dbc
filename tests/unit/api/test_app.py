"""Requests, their answers, and what becomes of garbage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.unit.api.conftest import Asking, access, token

from pointsman.api import app as app_module
from pointsman.api.documents import Applied, Count, Problem, Status
from pointsman.api.operator import RefusedError
from pointsman.api.routes import ROUTES
from pointsman.config import ConfigError
from pointsman.config import Problem as ConfigProblem
from pointsman.kernel.errors import KernelError

ORDER = "/v1/nodes/coaps/n1/order"
JSON = {"content-type": "application/json"}


def test_the_status_is_the_operators(ask: Asking) -> None:
    answer = ask("GET", "/v1/status")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    found = Status.model_validate(answer.json())
    assert [service.name for service in found.services] == ["coaps", "coap"]


def test_one_service_is_that_of_the_status(ask: Asking) -> None:
    assert ask("GET", "/v1/services/coap").json()["state"] == "degraded"
    missing = ask("GET", "/v1/services/nope")
    assert (missing.status_code, missing.json()["detail"]) == (404, "no service nope")


def test_counters_are_rows_with_their_owner(ask: Asking) -> None:
    rows = ask("GET", "/v1/counters").json()
    assert {"service": "coaps", "node": "n2", "listener": "", "guard": "", "verdict": "cid"}.items() <= rows[
        4
    ].items()
    assert rows[0]["verdict"] == "hairpin"
    assert Count(packets=20, bytes=1000) == Count(packets=rows[4]["packets"], bytes=rows[4]["bytes"])


def test_an_order_is_given_listed_and_taken_back(ask: Asking) -> None:
    told = ask("POST", ORDER, json={"verb": "drain", "reason": "disk", "seconds": 60}).json()
    assert (told["verb"], told["until"] - told["since"]) == ("drain", 60)
    assert [order["node"] for order in ask("GET", "/v1/orders").json()] == ["n1"]
    assert ask("POST", ORDER, json={"verb": "enable"}).status_code == 200
    assert ask("GET", "/v1/orders").json() == []


def test_an_order_about_a_service_names_no_node(ask: Asking) -> None:
    told = ask("POST", "/v1/services/coaps/order", json={"verb": "disable"}).json()
    assert (told["service"], told["node"], told["verb"]) == ("coaps", None, "disable")


def test_a_node_is_replaced(ask: Asking) -> None:
    path = "/v1/nodes/coaps/n1/replace"
    assert ask("POST", path, json={"address": ["10.0.0.99", "fd00::99"]}).json()["number"] == 2
    refused = ask("POST", path, json={"address": ["192.0.2.10"]})
    assert (refused.status_code, refused.json()["errors"]) == (422, ["address 192.0.2.10 is a listener's"])


def test_configurations_are_applied_confirmed_read_and_restored(ask: Asking) -> None:
    assert ask("POST", "/v1/confirm").status_code == 409
    body = {"text": "[gateway]\n", "confirm": 60}
    assert ask("POST", "/v1/apply", json=body).json()["changes"] == ["service coaps: new"]
    assert ask("GET", "/v1/status").json()["pending"]["back_to"] == 1
    answer = ask("POST", "/v1/confirm")
    assert (answer.status_code, answer.content) == (204, b"")
    assert ask("GET", "/v1/configuration").text == "[gateway]\n"
    assert ask("POST", "/v1/history/1/restore").json()["number"] == 3
    assert ask("POST", "/v1/history/9/restore").status_code == 404
    assert ask("POST", "/v1/reload").json()["warnings"]


def test_mistakes_of_a_configuration_are_lines(ask: Asking) -> None:
    refused = ask("POST", "/v1/apply", json={"text": "x", "filename": "g.toml"})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert Problem.model_validate(refused.json()).errors == ["g.toml:1: no table"]


def test_events_are_those_with_higher_numbers(ask: Asking) -> None:
    for _ in range(3):
        ask("POST", "/v1/reload")
    assert [event["number"] for event in ask("GET", "/v1/events?after=1").json()] == [2, 3]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 10_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"verb": "explode"}', 422),
        (b'{"verb": "drain", "extra": 1}', 422),
        (b'{"verb": "drain", "seconds": NaN}', 422),
        (b'{"verb": "drain", "seconds": 1e999}', 422),
        (b'{"verb": "drain", "seconds": -1}', 422),
        (b'{"verb": "drain", "reason": "' + b"x" * 501 + b'"}', 422),
    ],
)
def test_garbage_is_refused_and_does_nothing(ask: Asking, content: bytes, status: int) -> None:
    answer = ask("POST", ORDER, content=content, headers=JSON)
    problem = Problem.model_validate(answer.json())
    assert (answer.status_code, problem.status) == (status, status)
    assert problem.errors
    assert ask.operator.kept == []


def test_what_is_no_json_by_its_type_is_refused(ask: Asking) -> None:
    content = json.dumps({"verb": "drain"}).encode()
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert ask("POST", ORDER, content=content, headers={"content-type": media}).status_code == 415
    with_charset = {"content-type": "application/json; charset=utf-8"}
    assert ask("POST", ORDER, content=content, headers=with_charset).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(ask: Asking) -> None:
    order = next(route for route in ROUTES if route.name == "order_node")
    assert ask("POST", ORDER, content=b" " * (order.largest + 1), headers=JSON).status_code == 413
    assert ask("POST", ORDER, content=b" " * order.largest, headers=JSON).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nodes/co%0Aaps/n1/drained", 404),
        ("/v1/nodes/coaps/%2e%2e/drained", 404),
        ("/v1/nodes/coaps/n1%0A/drained", 404),
        ("/v1/nodes/coaps/" + "n" * 64 + "/drained", 404),
        ("/v1/nodes/coaps/n9/drained", 404),
        ("/v1/services/COAPS", 404),
        ("/v1/events?after=-1", 422),
        ("/v1/events?after=", 422),
        ("/v1/events?after=1e3", 422),
        ("/v1/events?after=" + "9" * 5000, 422),
        ("/v1/events?after=%D9%A1", 422),
        ("/v1/events?after=1&after=1", 422),
        ("/v1/events?before=1", 422),
        ("/v1/status?after=1", 422),
        ("/v1/", 404),
        ("/", 404),
        ("/v2/status", 404),
    ],
)
def test_paths_and_queries_that_are_none_are_problems(ask: Asking, path: str, status: int) -> None:
    answer = ask("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("number", ["0", "01", "-1", "x", "9" * 30])
def test_numbers_in_paths_are_numbers(ask: Asking, number: str) -> None:
    assert ask("POST", f"/v1/history/{number}/restore").status_code == 404


def test_another_method_is_told_which_there_are(ask: Asking) -> None:
    answer = ask("DELETE", ORDER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert ask("HEAD", "/v1/status").status_code == 200
    assert ask("HEAD", "/v1/events/stream").status_code == 405


def test_what_fails_unexpectedly_is_told_without_its_reason(
    ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> Status:
        raise RuntimeError("secret")

    monkeypatch.setattr(ask.operator, "status", failing)
    answer = ask("GET", "/v1/status")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "secret" not in answer.text


def test_a_refusal_has_the_operators_status(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refusing() -> Status:
        raise RefusedError("not now", status=409)

    monkeypatch.setattr(ask.operator, "status", refusing)
    assert ask("GET", "/v1/status").json() == {
        "title": "Conflict",
        "status": 409,
        "detail": "not now",
        "errors": [],
    }


@pytest.mark.parametrize(
    ("raised", "status", "detail", "errors"),
    [
        (KernelError("no room; say less"), 500, "no room; say less", []),
        (
            ConfigError("g.toml", [ConfigProblem(3, "service coaps", "odd", "even")]),
            422,
            "the configuration has mistakes",
            ["g.toml:3: service coaps: odd; even"],
        ),
    ],
)
def test_what_the_machine_or_a_file_is_refused_for_is_told(
    ask: Asking,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    status: int,
    detail: str,
    errors: list[str],
) -> None:
    async def refusing(_: str) -> Applied:
        raise raised

    monkeypatch.setattr(ask.operator, "reload", refusing)
    problem = ask("POST", "/v1/reload").json()
    assert (problem["status"], problem["detail"], problem["errors"]) == (status, detail, errors)


def test_a_body_that_does_not_come_ends_the_request(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async def send() -> int:
        transport = httpx.ASGITransport(app_module.application(ask.operator, access))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {**JSON, "authorization": f"Bearer {token('ci')}"}
            return (await client.post(ORDER, content=slow(), headers=headers)).status_code

    assert asyncio.run(send()) == 408
