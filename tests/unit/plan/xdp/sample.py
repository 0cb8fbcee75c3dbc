"""Gateways to compile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from pointsman.config import parse
from pointsman.model import NodeState, NodeStates
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels, allocate


def text(
    nodes: Iterable[tuple[int, int]] = ((1, 1), (2, 1), (3, 1)),
    *,
    listeners: Iterable[int] = (5684,),
    extra: str = "",
    protocol: str = "dtls",
) -> str:
    """A service of nodes by id and weight; node 2 of a single listener has a port of its own."""
    ports = [
        f'{{ address = "{address}:{port}", node_port = {port + 1000} }}'
        for port in listeners
        for address in ("192.0.2.10", "[2001:db8::10]")
    ]
    rows = [
        "[gateway]",
        'name = "edge"',
        "hash_seed = 7",
        "flow_memory = 1000",
        "[[service]]",
        'name = "s"',
        f'protocol = "{protocol}"',
        f"listen = [{', '.join(ports)}]",
        *(["connection_id = { offset = 4, bits = 12, length = 6 }"] if protocol == "dtls" else []),
        extra,
    ]
    for number, weight in nodes:
        last = 10 + number
        addresses = f'"10.0.0.{last}", "fd00::{last}"'
        if number == 2 and len(ports) == 2:
            addresses = '"10.0.0.12:15684", "[fd00::12]:15684"'
        rows += ["[[service.node]]", f'name = "n{number}"', f"weight = {weight}", f"address = [{addresses}]"]
        rows += [f"id = {number}"] if protocol == "dtls" else []
    return "\n".join(rows) + "\n"


def inputs(
    content: str,
    states: Mapping[str, NodeState] | None = None,
    before: PlaneInputs | None = None,
    leaving: Mapping[str, int] | None = None,
) -> PlaneInputs:
    gateway = parse(content, "sample.toml").gateway
    labels = allocate(
        [node for service in gateway.services for node in service.nodes],
        before.labels if before else Labels(),
        now=0,
        rest=1000,
    )
    orders = NodeStates({("s", name): state for name, state in (states or {}).items()})
    gone = tuple(
        Leaving("s", node, before.labels.of(node), seconds)
        for name, seconds in (leaving or {}).items()
        if before and (node := before.gateway.services[0].node(name))
    )
    return PlaneInputs(gateway, orders, labels, gone)


NODES = st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=6).flatmap(
    lambda numbers: st.tuples(*(st.tuples(st.just(number), st.integers(0, 3)) for number in numbers)).filter(
        lambda nodes: any(weight for _, weight in nodes)
    )
)
TEXTS = st.builds(
    lambda nodes, listeners, extra: text(nodes, listeners=listeners, extra=extra),
    NODES,
    st.lists(st.sampled_from((5684, 5685, 5686, 5687)), unique=True, min_size=1),
    st.sampled_from(("", "flow_table_size = 100", "flow_table_size = 5", "maglev_table_size = 2039")),
)
