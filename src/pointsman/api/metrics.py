"""Metrics for Prometheus: what the status says, and what the daemon counted by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman.api.documents import Order, Service, Status, counter_rows
from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATIONS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SERVICE_STATES = ("up", "degraded", "backup", "kept", "down", "disabled")
_OWNER = ("service", "node", "listener", "guard", "verdict")
_NODE = ("service", "node")
_CHECK = (*_NODE, "kind", "target")


class Figures:
    """What the daemon counts while it runs and no status says; it calls the methods."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "pointsman_check_latency_seconds",
            "How long checks took that passed.",
            ("service", "kind"),
            buckets=LATENCIES,
            registry=self._registry,
        )
        self._checks = Counter(
            "pointsman_check_results",
            "Checks by result; untried ones could not be made here.",
            ("service", "kind", "result"),
            registry=self._registry,
        )
        self._applies = Counter(
            "pointsman_applies",
            "Changes of the data plane, by result.",
            ("result",),
            registry=self._registry,
        )
        self._duration = Histogram(
            "pointsman_apply_duration_seconds",
            "How long changes of the data plane took.",
            buckets=DURATIONS,
            registry=self._registry,
        )
        for result in ("done", "failed"):
            self._applies.labels(result)

    def checked(self, service: str, kind: str, *, passed: bool | None, latency: float | None = None) -> None:
        """Count one check; ``passed`` None: it could not be tried; ``latency`` in seconds, None without success."""
        result = {True: "passed", False: "failed", None: "untried"}[passed]
        self._checks.labels(service, kind, result).inc()
        if latency is not None:
            self._latency.labels(service, kind).observe(latency)

    def applied(self, seconds: float, *, done: bool = True) -> None:
        """Count one change of the data plane, or one that failed."""
        self._applies.labels("done" if done else "failed").inc()
        self._duration.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """All of them, without when each was first counted, which is no metric of ours."""
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


@dataclass(frozen=True, slots=True)
class Seen:
    """What the daemon says of itself at one moment."""

    status: Status
    orders: tuple[Order, ...] = ()


class Collected(Collector):
    """What is seen and what was counted, for a registry or for ``exposition``."""

    def __init__(self, seen: Seen, figures: Figures) -> None:
        self._seen, self._figures = seen, figures

    def collect(self) -> Iterator[Metric]:
        status = self._seen.status
        yield from _traffic(status)
        yield from _nodes(status.services)
        yield from _checks(status.services)
        yield from _daemon(self._seen)
        yield from self._figures.collect()


def exposition(seen: Seen, figures: Figures) -> str:
    """The text that Prometheus reads (version 0.0.4).

    The library's own writer looks at every name anew, and takes twice as long.
    """
    return "".join(line for metric in Collected(seen, figures).collect() for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    yield f"# HELP {name} {metric.documentation}\n# TYPE {name} {metric.type}\n"
    for one in metric.samples:
        labels = ",".join([f'{label}="{_escaped(text)}"' for label, text in one.labels.items()])
        yield f"{one.name}{{{labels}}} {float(one.value)!r}\n"


@lru_cache(maxsize=4096)
def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _traffic(status: Status) -> Iterator[Metric]:
    packets = CounterMetricFamily("pointsman_packets", "Packets by verdict.", labels=_OWNER)
    size = CounterMetricFamily("pointsman_bytes", "Bytes by verdict, IP headers included.", labels=_OWNER)
    for row in counter_rows(status):
        labels = (row.service, row.node, row.listener, row.guard, row.verdict)
        packets.add_metric(labels, row.packets)
        size.add_metric(labels, row.bytes)
    yield packets
    yield size


def _nodes(services: list[Service]) -> Iterator[Metric]:
    service_state = GaugeMetricFamily(
        "pointsman_service_state", "1 for the state that the service is in.", labels=("service", "state")
    )
    state = GaugeMetricFamily(
        "pointsman_node_state", "1 for the state that the node is in.", labels=(*_NODE, "state")
    )
    share = GaugeMetricFamily(
        "pointsman_node_share_ratio",
        "How much of its weight the node takes: below 1 in a slow start.",
        labels=_NODE,
    )
    weight = GaugeMetricFamily("pointsman_node_weight", "The node's weight in the file.", labels=_NODE)
    flows = GaugeMetricFamily(
        "pointsman_node_flows", "Remembered flows, where the data plane counts them.", labels=_NODE
    )
    silent = GaugeMetricFamily(
        "pointsman_node_silent", "1: the node is sent much and answers nothing.", labels=_NODE
    )
    for service in services:
        for word in _and_other(SERVICE_STATES, service.state):
            service_state.add_metric((service.name, word), word == service.state)
        for node in service.nodes:
            name = (service.name, node.name)
            for word in _and_other(tuple(NodeState), node.state):
                state.add_metric((*name, word), word == node.state)
            share.add_metric(name, node.share / 100)
            silent.add_metric(name, bool(node.sign))
            weight.add_metric(name, node.weight)
            if node.flows is not None:
                flows.add_metric(name, node.flows)
    yield from (service_state, state, share, weight, flows, silent)


def _and_other(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    return words if word in words else (*words, word)


def _checks(services: list[Service]) -> Iterator[Metric]:
    healthy = GaugeMetricFamily(
        "pointsman_check_healthy", "1: the check's verdict is good; without one it is absent.", labels=_CHECK
    )
    last = GaugeMetricFamily(
        "pointsman_check_last_latency_seconds", "How long the last try took that passed.", labels=_CHECK
    )
    changes = GaugeMetricFamily(
        "pointsman_check_changes", "Changes of verdict in the last ten minutes.", labels=_CHECK
    )
    for service in services:
        for node in service.nodes:
            for check in node.checks:
                labels = (service.name, node.name, check.kind, check.target)
                if check.healthy is not None:
                    healthy.add_metric(labels, check.healthy)
                if check.latency is not None:
                    last.add_metric(labels, check.latency)
                changes.add_metric(labels, check.changes)
    yield from (healthy, last, changes)


def _daemon(seen: Seen) -> Iterator[Metric]:
    status = seen.status
    yield _info("pointsman_build_info", "The running version.", {"version": status.version})
    yield _info(
        "pointsman_gateway_info",
        "The gateway and its data plane.",
        {"gateway": status.gateway, "dataplane": status.dataplane},
    )
    interfaces = GaugeMetricFamily(
        "pointsman_interface_info", "Interfaces that have the XDP program.", labels=("interface", "mode")
    )
    for port in status.interfaces:
        interfaces.add_metric((port.name, port.mode), 1)
    yield interfaces
    yield _one(
        CounterMetricFamily, "pointsman_repairs", "Times that the kernel was put right.", status.repairs
    )
    orders = GaugeMetricFamily("pointsman_orders", "Orders that hold, by verb.", labels=("verb",))
    for verb in ("drain", "disable", "enable"):
        orders.add_metric((verb,), sum(order.verb == verb for order in seen.orders))
    yield orders
    gauge = GaugeMetricFamily
    yield _one(gauge, "pointsman_findings", "What is doubtful on this machine.", len(status.findings))
    yield _one(
        gauge, "pointsman_config_stale", "1: the running configuration is not the file's.", bool(status.stale)
    )
    yield _one(
        gauge,
        "pointsman_config_pending",
        "1: the configuration rolls back unless it is confirmed.",
        status.pending is not None,
    )
    yield _one(
        gauge, "pointsman_start_time_seconds", "When the daemon started, since the epoch.", status.started
    )
    if status.applied is not None:
        yield _one(
            gauge,
            "pointsman_last_apply_timestamp_seconds",
            "When the data plane was last changed, since the epoch.",
            status.applied,
        )


def _info(name: str, says: str, labels: dict[str, str]) -> Metric:
    metric = GaugeMetricFamily(name, says, labels=tuple(labels))
    metric.add_metric(tuple(labels.values()), 1)
    return metric


def _one(family: type[CounterMetricFamily | GaugeMetricFamily], name: str, says: str, value: float) -> Metric:
    metric = family(name, says, labels=())
    metric.add_metric((), float(value))
    return metric


VERDICTS: tuple[str, ...] = tuple(Verdict)
"""What the label ``verdict`` can be."""
