"""The flows that the programs remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pointsman.dataplane.protocol import FlowCount, FlowKind, flow_counts
from pointsman.dataplane.xdp_maps import MapSet, coarse_clock
from pointsman.model import Service
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labelled import NOBODY, Labelled, labelled, labelled_in
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import compile_listeners
from pointsman.plan.xdp.place import FlowPlace, Layout
from pointsman.plan.xdp.remembered import count_remembered

ROW = 1 << 15
"""Bytes of the memory that are looked at together."""

KINDS = (FlowKind.NEW, FlowKind.ANSWERED, FlowKind.CLOSING, FlowKind.NETWORK)
"""In the order of enum flow_class."""


def flows(maps: MapSet, layout: Layout, inputs: PlaneInputs) -> list[FlowCount]:
    """Read all of the memory; at a million flows this takes a fifth of a second of the processor."""
    services = {service.name: service for service in inputs.gateway.services}
    sharing: dict[str, Service] = {}
    shared: FlowPlace | None = None
    found: list[FlowCount] = []
    for key, entry in compile_listeners(inputs).items():
        placed = layout.placed.get(key)
        if placed is None:
            continue
        if placed.flows.own:
            found += _counted(maps, placed.flows, labelled_in(inputs, services[entry.service]))
        else:
            shared = placed.flows
            sharing[entry.service] = services[entry.service]
    if shared is not None:
        found += _counted(maps, shared, labelled(inputs, list(sharing.values())))
    return flow_counts(found)


def _counted(maps: MapSet, place: FlowPlace, nodes: Mapping[int, Labelled]) -> Iterator[FlowCount]:
    now = coarse_clock() >> abi.FLOW_TICK_SHIFT
    for (label, kind), number in count_remembered(_rows(maps, place), now).items():
        whose = nodes.get(label, NOBODY)
        yield FlowCount(whose.services, whose.node, KINDS[kind], number, whose.leaving)


def _rows(maps: MapSet, place: FlowPlace) -> Iterator[bytes]:
    view, end = maps.views["flows"], (place.base + place.buckets) * abi.BUCKET_SIZE
    for start in range(place.base * abi.BUCKET_SIZE, end, ROW):
        yield view[start : min(start + ROW, end)]
