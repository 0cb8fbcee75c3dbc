"""Where the table remembers flows, and what an element's data mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pointsman.model import Family, Listener, Service
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.nftables.direct import TABLES
from pointsman.plan.nftables.names import TCP, family_name, listener_name, transport_of
from pointsman.plan.nftables.ruleset import TABLE


@dataclass(frozen=True, slots=True)
class FlowMap:
    """``kind`` is "flow", "closing" or "network"; ``listener`` None: that of all the service's listeners.

    Keys of IPv4 are the client's address and port, 4 bytes each, or its network; those of IPv6 are hashes.
    """

    service: Service
    family: Family
    listener: Listener | None
    kind: str
    table: str
    name: str


def flow_maps(inputs: PlaneInputs) -> Iterator[FlowMap]:
    """Every map that packets fill with labels of nodes."""
    for service in inputs.gateway.services:
        for family in Family:
            listeners = service.listeners_of(family)
            table = TABLES[family] if service.forward.answers_pass_by else TABLE
            for listener in listeners:
                name = listener_name(service, listener.endpoint)
                yield FlowMap(service, family, listener, "flow", table, f"{name}/flows")
                if transport_of(service) == TCP:
                    yield FlowMap(service, family, listener, "closing", table, f"{name}/closing")
            if service.affinity is not None and listeners:
                name = f"{family_name(service, family)}/networks"
                yield FlowMap(service, family, None, "network", table, name)
