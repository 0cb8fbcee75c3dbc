"""The description: what it says is what is served."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from tests.unit.api.conftest import Asking, access, token
from tests.unit.api.fake import FakeOperator

from pointsman.api.app import application
from pointsman.api.openapi import describe
from pointsman.api.route import PATH_VALUES
from pointsman.api.routes import ROUTES

EXAMPLES = int(os.environ.get("POINTSMAN_SCHEMATHESIS_EXAMPLES", "4"))


def finite() -> FakeOperator:
    """One whose stream ends behind what happened already."""
    operator = FakeOperator()
    operator.happen("order", "drain", "coaps", "n1")
    operator.stopped.set()
    return operator


schema = schemathesis.openapi.from_asgi("/openapi.json", application(finite(), access))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_what_is_described_is_what_is_answered(case: Any) -> None:
    headers = {"Authorization": f"Bearer {token('ci')}"}
    response = case.call(headers=headers)
    excluded = []
    # A configuration may be a text, and an address a name, that the daemon has reasons against.
    if case.operation.path.endswith(("/apply", "/replace")):
        excluded.append(positive_data_acceptance)
    # Values that are no part of a URL are not in the request, though the case counts them as mistakes.
    if case.operation.path == "/v1/events" and re.fullmatch(
        "(after=[0-9]{1,15})?", urlsplit(response.request.url).query
    ):
        excluded.append(negative_data_rejection)
    case.validate_response(response, headers=headers, excluded_checks=excluded)


def test_every_route_is_described_and_every_description_served(ask: Asking) -> None:
    found = ask("GET", "/openapi.json", who=None).json()
    assert found["openapi"].startswith("3.1")
    said = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert said == {(route.method, route.path) for route in ROUTES}
    assert len(said) == 20


def test_operations_have_a_summary_a_name_of_their_own_and_their_scope() -> None:
    operations = [one for methods in describe(ROUTES)["paths"].values() for one in methods.values()]
    assert all(one["summary"] for one in operations)
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert bool(one["security"]) == ("Scope: " in one.get("description", ""))


def test_every_part_of_a_path_is_described() -> None:
    for route in ROUTES:
        assert set(route.path_values) <= set(PATH_VALUES)
        assert set(re.findall(r"\{(\w+)\}", route.path)) == set(route.path_values)


def test_references_lead_to_schemas() -> None:
    text = json.dumps(describe(ROUTES))
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names
    assert names <= set(describe(ROUTES)["components"]["schemas"])


def test_it_is_the_same_every_time() -> None:
    assert json.dumps(describe(ROUTES)) == json.dumps(describe(ROUTES))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_status_that_a_route_refuses_with_is_described(route: Any) -> None:
    operation = describe(ROUTES)["paths"][route.path][route.method.lower()]
    wanted = {str(status) for status in route.refusals}
    assert wanted <= set(operation["responses"])
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            assert list(response["content"]) == ["application/problem+json"]
