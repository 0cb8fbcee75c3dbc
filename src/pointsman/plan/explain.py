"""Tell which node a datagram would go to, and why, by the model alone: no kernel is asked."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.model import CidPolicy, Endpoint, Gateway, Listener, NodeStates, Protocol, Service
from pointsman.plan import jhash, maglev
from pointsman.plan.nftables.tables import members, size_of
from pointsman.plan.verdicts import Verdict
from pointsman.wire import connection_id as cid_codec
from pointsman.wire import dtls


@dataclass(frozen=True, slots=True)
class Explanation:
    """``verdict`` and ``node`` are None where the datagram is no service's business; ``steps`` say why."""

    steps: tuple[str, ...]
    service: str | None = None
    verdict: Verdict | None = None
    node: str | None = None
    target: Endpoint | None = None

    @property
    def dropped(self) -> bool:
        return self.verdict is not None and self.node is None


def payload_of_cid(cid: bytes) -> bytes:
    """A datagram that carries this connection ID; raises DtlsError (a ValueError) for an impossible one."""
    return dtls.cid_record(cid)


def explain(
    gateway: Gateway, states: NodeStates, client: Endpoint, listener: Endpoint, payload: bytes
) -> Explanation:
    """Decide as the data planes do for a client of whom nothing is remembered."""
    for service in gateway.services:
        for candidate in service.listeners:
            if candidate.endpoint == listener:
                return _decide(gateway, service, candidate, states, client, payload)
    return Explanation((f"no service listens on {listener}: left to the kernel",))


def _decide(
    gateway: Gateway,
    service: Service,
    listener: Listener,
    states: NodeStates,
    client: Endpoint,
    payload: bytes,
) -> Explanation:
    steps = [f"service {service.name} listens on {listener.endpoint}"]
    if service.protocol is Protocol.DTLS and service.connection_id is not None:
        if dtls.is_cid_record(payload):
            decided = _by_cid(service, listener, states, payload, steps)
            if decided is not None:
                return decided
        else:
            steps.append("the datagram starts with no tls12_cid record: it goes by its flow")
    steps.append("nothing is remembered of this client (this is computed without the kernel): scheduler")
    return _by_scheduler(gateway, service, listener, states, client, steps)


def _by_cid(
    service: Service, listener: Listener, states: NodeStates, payload: bytes, steps: list[str]
) -> Explanation | None:
    where = service.connection_id
    if where is None:
        return None
    node_id = cid_codec.node_id(payload, where.offset, where.bits)
    if node_id is None:
        last = where.offset + where.bits - 1
        steps.append(f"tls12_cid record, but too short to hold bits {where.offset}..{last}")
    else:
        steps.append(f"tls12_cid record whose connection ID says node id {node_id}")
    node = next((node for node in service.nodes if node.id == node_id and node_id is not None), None)
    if node is None:
        return _by_policy(service, Verdict.CID_UNKNOWN, service.cid_unknown, "no node has it", steps)
    state = states.of(service.name, node.name)
    if not state.takes_named_packets:
        why = f"{node.name} is {state}"
        return _by_policy(service, Verdict.CID_NODE_DOWN, service.cid_node_down, why, steps)
    steps.append(f"node {node.name} has it and is {state}")
    return Explanation(tuple(steps), service.name, Verdict.CID, node.name, node.endpoint(listener))


def _by_policy(
    service: Service, verdict: Verdict, policy: CidPolicy, why: str, steps: list[str]
) -> Explanation | None:
    steps.append(f"{why}: {verdict} = {policy}")
    if policy is CidPolicy.BALANCE:
        return None
    return Explanation(tuple(steps), service.name, verdict)


def _by_scheduler(
    gateway: Gateway,
    service: Service,
    listener: Listener,
    states: NodeStates,
    client: Endpoint,
    steps: list[str],
) -> Explanation:
    takers, size = members(service, states.of_all(service)), size_of(service)
    if not takers:
        steps.append("no node takes new flows")
        return Explanation(tuple(steps), service.name, Verdict.NO_NODE)
    slot = jhash.client_slot(client.address, client.port, size, gateway.hash_seed)
    name = takers[maglev.build(takers, size, gateway.hash_seed)[slot]][0]
    steps.append(f"maglev: jhash of {client} is slot {slot} of {size}, which is {name}'s")
    node = service.node(name)
    target = node.endpoint(listener) if node is not None else None
    return Explanation(tuple(steps), service.name, Verdict.BALANCED, name, target)
