"""Metrics: their names, labels and figures, and that dashboard and alerts name no others."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families as families
from tests.unit.api.conftest import Asking
from tests.unit.api.fake import FakeOperator
from tests.unit.health import gateways

from pointsman.api.documents import CheckResult, Count, Order, Pending, Status, Verb
from pointsman.api.metrics import LATENCIES, SERVICE_STATES, Collected, Figures, Seen, exposition
from pointsman.health.engine import Engine
from pointsman.model import Check, CheckKind
from pointsman.model.health import HttpTerms
from pointsman.plan.verdicts import Verdict

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "contrib/grafana/pointsman.json"
ALERTS = ROOT / "contrib/prometheus/alerts.yml"
MONITORING = ROOT / "docs/howto/monitoring.md"
REFERENCE = ROOT / "docs/reference/metrics.md"


def figures() -> Figures:
    found = Figures()
    found.checked("coaps", "dtls", passed=True, latency=0.004)
    found.checked("coaps", "dtls", passed=False)
    found.checked("coaps", "dtls", passed=None)
    found.applied(0.2)
    return found


def seen(**changes: Any) -> Seen:
    status = asyncio.run(FakeOperator().status()).model_copy(update=changes)
    order = Order(service="coaps", node="n1", verb=Verb.DRAIN, who="uid 0", since=1.0)
    return Seen(status, (order,))


def metrics(found: Seen | None = None, counted: Figures | None = None) -> dict[str, Metric]:
    text = exposition(found or seen(), counted or figures())
    return {metric.name: metric for metric in families(text)}


def value(found: dict[str, Metric], name: str, sample: str = "", **labels: str) -> float:
    (only,) = (
        one.value
        for one in found[name].samples
        if one.name == (sample or one.name) and labels.items() <= one.labels.items()
    )
    return float(only)


def test_packets_and_bytes_have_their_owner_and_verdict() -> None:
    found = metrics()
    node = {"service": "coaps", "node": "n2", "verdict": "cid", "listener": "", "guard": ""}
    assert value(found, "pointsman_packets", **node) == 20
    assert value(found, "pointsman_bytes", **node) == 1000
    listener = {"service": "coaps", "listener": "192.0.2.10:5684", "verdict": "cid_unknown", "node": ""}
    assert value(found, "pointsman_packets", **listener) == 3
    assert value(found, "pointsman_packets", service="", verdict="hairpin") == 1
    assert found["pointsman_packets"].type == "counter"


def test_every_verdict_is_a_label_of_its_own() -> None:
    everything = {verdict: Count(packets=number, bytes=0) for number, verdict in enumerate(Verdict, 1)}
    found = metrics(seen(counters=everything))
    for number, verdict in enumerate(Verdict, 1):
        assert value(found, "pointsman_packets", service="", guard="", verdict=verdict) == number


def test_exactly_one_state_is_1() -> None:
    found = metrics()
    for service, state in (("coaps", "up"), ("coap", "degraded")):
        for word in SERVICE_STATES:
            assert value(found, "pointsman_service_state", service=service, state=word) == (word == state)
    assert value(found, "pointsman_node_state", service="coaps", node="n1", state="up") == 1
    assert value(found, "pointsman_node_state", service="coaps", node="n1", state="down") == 0


def test_a_state_that_this_version_does_not_know_is_shown_all_the_same() -> None:
    status = seen().status
    odd = status.services[0].model_copy(update={"state": "asleep"})
    found = metrics(seen(services=[odd]))
    assert value(found, "pointsman_service_state", service="coaps", state="asleep") == 1


def test_shares_are_ratios_and_a_check_without_a_verdict_is_absent() -> None:
    found = metrics()
    assert value(found, "pointsman_node_share_ratio", service="coaps", node="n2") == 0.5
    assert value(found, "pointsman_check_healthy", service="coaps", node="n1", kind="dtls") == 1
    assert value(found, "pointsman_check_healthy", service="coaps", node="n2", kind="dtls") == 0
    assert [one for one in found["pointsman_check_healthy"].samples if one.labels["kind"] == "tcp"] == []


def test_latencies_are_a_histogram_in_seconds() -> None:
    found = metrics()
    bucket = "pointsman_check_latency_seconds_bucket"
    assert value(found, "pointsman_check_latency_seconds", bucket, service="coaps", le="0.005") == 1
    assert value(found, "pointsman_check_latency_seconds", bucket, service="coaps", le="0.0025") == 0
    assert value(found, "pointsman_check_results", service="coaps", result="failed") == 1
    assert value(found, "pointsman_check_results", service="coaps", result="untried") == 1


def test_no_series_is_there_twice() -> None:
    series = [
        (one.name, *sorted(one.labels.items())) for metric in metrics().values() for one in metric.samples
    ]
    assert len(series) == len(set(series))


def test_checks_that_differ_by_their_path_alone_are_series_of_their_own() -> None:
    checks = [
        replace(Check(CheckKind.HTTP, terms=HttpTerms(path=path)), rise=rise)
        for path in "/a"
        for rise in (1, 2)
    ]
    wanted = gateways.gateway(gateways.service(checks, {"n1": ("10.0.0.1", "fd00::1")}, families=(4, 6)))
    engine = Engine(lambda _: None)
    engine.want(wanted)
    results = [CheckResult(kind=one.kind, target=one.target) for one in engine.results()["s", "n1"]]
    assert len(results) == 8
    status = seen().status
    node = status.services[0].nodes[0].model_copy(update={"checks": results})
    found = metrics(seen(services=[status.services[0].model_copy(update={"nodes": [node]})]))
    series = [tuple(sorted(one.labels.items())) for one in found["pointsman_check_changes"].samples]
    assert len(series) == len(set(series)) == 8


def test_what_the_daemon_says_of_itself() -> None:
    found = metrics(seen(pending=Pending(until=1.0), stale="g.toml:1: no table"))
    assert value(found, "pointsman_repairs") == 2
    assert value(found, "pointsman_orders", verb="drain") == 1
    assert value(found, "pointsman_orders", verb="disable") == 0
    assert value(found, "pointsman_build_info", version="0") == 1
    assert value(found, "pointsman_config_pending") == value(found, "pointsman_config_stale") == 1
    assert value(metrics(), "pointsman_config_pending") == value(metrics(), "pointsman_config_stale") == 0
    assert value(found, "pointsman_applies", result="failed") == 0


def test_labels_that_hold_anything_are_escaped() -> None:
    order = seen(dataplane='a"b\\c\nd')
    assert value(metrics(order), "pointsman_gateway_info", dataplane='a"b\\c\nd') == 1


def test_the_text_is_the_librarys() -> None:
    registry = CollectorRegistry(auto_describe=False)
    odd = seen(dataplane='a"b\\c\nd')
    counted = figures()
    registry.register(Collected(odd, counted))
    theirs = generate_latest(registry).decode()
    assert list(families(exposition(odd, counted))) == list(families(theirs))


def test_they_are_served_in_prometheus_form(ask: Asking) -> None:
    answer = ask("GET", "/metrics", who="reader")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [metric.name for metric in families(answer.text)]


def test_an_empty_gateway_has_metrics_too() -> None:
    empty = Status(
        gateway="g", filename="", dataplane="nftables", dataplane_reason="", version="0", started=1.0
    )
    assert value(metrics(Seen(empty), Figures()), "pointsman_repairs") == 0


def names() -> set[str]:
    """What the exposition has, as queries name it."""
    samples = {one.name for metric in metrics().values() for one in metric.samples}
    return {name for name in samples if not name.endswith("_created")}


def queried(text: str) -> set[str]:
    return set(re.findall(r"\bpointsman_\w+", text))


def expressions(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [value for key, value in node.items() if key in ("expr", "query") and isinstance(value, str)]
        return own + [found for value in node.values() for found in expressions(value)]
    return [found for value in node for found in expressions(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS], ids=lambda path: path.name)
def test_every_metric_that_is_queried_exists(path: Path) -> None:
    text = path.read_text()
    if path is DASHBOARD:
        text = "\n".join(expressions(json.loads(text)))
    found = queried(text)
    assert len(found) >= 8
    assert found - names() == set()


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS], ids=lambda path: path.name)
def test_every_verdict_and_state_that_is_queried_exists(path: Path) -> None:
    text = path.read_text().replace('\\"', '"')
    for label, words in (("verdict", set(Verdict)), ("state", {*SERVICE_STATES, "draining"})):
        found = re.findall(rf'\b{label}!?[=~]+"([^"$]+)"', text)
        assert found
        assert {word for each in found for word in each.split("|")} <= words


def test_slow_checks_are_told_of_before_they_fail() -> None:
    """Only tries that pass are in the histogram, so a threshold above the time-out is never reached."""
    (threshold,) = re.findall(
        r"pointsman_check_latency_seconds_bucket.*\) > ([0-9.]+)$", ALERTS.read_text(), re.MULTILINE
    )
    assert float(threshold) < Check(CheckKind.TCP).timeout
    assert float(threshold) in LATENCIES


def test_every_alert_has_its_row() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    rows = re.findall(r"`(Pointsman\w+)`", MONITORING.read_text())
    assert sorted(alerts) == sorted(rows)


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 10
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_every_metric_has_its_row_in_the_reference() -> None:
    rows = set(re.findall(r"^\| `(pointsman_\w+)`", REFERENCE.read_text(), flags=re.MULTILINE))
    described = {
        metric.name + ("_total" if metric.type == "counter" else "") for metric in metrics().values()
    }
    assert rows == described
