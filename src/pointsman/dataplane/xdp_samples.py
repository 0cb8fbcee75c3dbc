"""Which connection IDs sampled records name nodes by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import compile_listeners
from pointsman.plan.xdp.place import Layout
from pointsman.wire import dtls
from pointsman.wire.frame import udp_payload


@dataclass(frozen=True, slots=True)
class Named:
    """A record that went to a node by its connection ID."""

    service: str
    node: str
    connection_id: bytes


def named(
    events: Iterable[abi.Event], layout: Layout, inputs: PlaneInputs, nodes: Collection[tuple[str, str]]
) -> Iterator[Named]:
    """Those that went to one of ``nodes``, of services whose connection IDs have a known length."""
    owners: dict[int, tuple[str, str, int]] = {}
    for key, entry in compile_listeners(inputs).items():
        service, placed = inputs.gateway.service(entry.service), layout.placed.get(key)
        if service is None or placed is None or service.connection_id is None:
            continue
        length = service.connection_id.length
        for node in entry.nodes:
            if length is not None and (entry.service, node.name) in nodes and node.label in placed.hot:
                owners[placed.hot[node.label]] = entry.service, node.name, length
    for event in events:
        owner = owners.get(event.subject) if event.verdict is Verdict.CID else None
        payload = udp_payload(event.bytes[: event.length]) if owner is not None else None
        if owner is None or payload is None or not dtls.is_cid_record(payload):
            continue
        service_name, node_name, length = owner
        connection_id = dtls.cid_field(payload)[:length]
        # Of a long one the sample has the beginning, which tells devices apart as well.
        if len(connection_id) == length or event.length > abi.EVENT_BYTES:
            yield Named(service_name, node_name, connection_id)
