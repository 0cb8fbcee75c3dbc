"""The flows that the tables remember."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from pointsman.dataplane.protocol import Client, Clients, FlowCount, FlowKind, flow_counts
from pointsman.kernel.nft_elements import count_data, elements
from pointsman.model import Endpoint, Family
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labelled import NOBODY, labelled_in
from pointsman.plan.nftables.flow_maps import FlowMap, flow_maps


def flows(inputs: PlaneInputs) -> list[FlowCount]:
    return flow_counts(count for own in flow_maps(inputs) for count in _counted(inputs, own))


def _counted(inputs: PlaneInputs, own: FlowMap) -> Iterator[FlowCount]:
    nodes = labelled_in(inputs, own.service)
    for label, number in count_data(own.table, own.name).items():
        whose = nodes.get(int.from_bytes(label, "big"), NOBODY)
        yield FlowCount(whose.services, whose.node, FlowKind(own.kind), number, whose.leaving)


def clients(inputs: PlaneInputs, service: str, node: str) -> Clients:
    known: list[Client] = []
    hashed = 0
    for own in flow_maps(inputs):
        if own.service.name != service or own.listener is None:
            continue
        nodes = labelled_in(inputs, own.service)
        labels = {label.to_bytes(2, "big") for label, whose in nodes.items() if whose.node == node}
        for element in elements(own.table, own.name):
            if element.data not in labels:
                continue
            if own.family is Family.V6:
                hashed += 1
                continue
            client = Endpoint(ip_address(element.key[:4]), int.from_bytes(element.key[4:6], "big"))
            known.append(Client(own.listener.endpoint, client, element.left or 0.0))
    return Clients(known, hashed)
