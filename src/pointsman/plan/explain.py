"""Tell which node a datagram would go to, and why, by the model alone: no kernel is asked."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from pointsman.model import (
    CidPolicy,
    Endpoint,
    Family,
    FilterMode,
    Gateway,
    Listener,
    NodeStates,
    Protocol,
    Scheduler,
    Service,
)
from pointsman.plan import jhash, maglev
from pointsman.plan.explain_filter import held_against
from pointsman.plan.members import members, size_of
from pointsman.plan.verdicts import Verdict
from pointsman.wire import connection_id as cid_codec
from pointsman.wire import dtls


@dataclass(frozen=True, slots=True)
class Explanation:
    """``verdict`` and ``node`` are None where the datagram is no service's business; ``steps`` say why.

    Where it is left to chance, or to those who came before, ``node`` is None and ``candidates`` are all it could be.
    """

    steps: tuple[str, ...]
    service: str | None = None
    verdict: Verdict | None = None
    node: str | None = None
    target: Endpoint | None = None
    candidates: tuple[str, ...] = ()

    @property
    def dropped(self) -> bool:
        return self.verdict is not None and self.node is None and not self.candidates


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
    held = held_against(service, client, payload) if payload else None
    if held is not None:
        verdict, why = held
        steps.append(f"the filter has something against it: {why} ({verdict})")
        if service.filter is not None and service.filter.mode is FilterMode.ENFORCE:
            return Explanation(tuple(steps), service.name, verdict)
        steps.append("it only counts, as its mode is monitor")
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
    takers = members(service, states.of_all(service), states.shares_of(service))
    size = size_of(service)
    if not takers:
        steps.append("no node takes new flows")
        return Explanation(tuple(steps), service.name, Verdict.NO_NODE)
    if service.affinity is not None:
        prefix = service.affinity.prefix4 if client.family is Family.V4 else service.affinity.prefix6
        network = ip_network(f"{client.address}/{prefix}", strict=False)
        steps.append(
            f"affinity: if clients of {network} were heard lately, their node is taken as long as it can be"
        )
    if service.scheduler is not Scheduler.MAGLEV and len(takers) > 1:
        total = sum(weight for _, weight in takers)
        shares = ", ".join(f"{name} ({weight} of {total})" for name, weight in takers)
        steps.append(f"{service.scheduler}: one of {shares}; which of them cannot be foretold")
        names = tuple(name for name, _ in takers)
        return Explanation(tuple(steps), service.name, Verdict.BALANCED, candidates=names)
    if service.scheduler is not Scheduler.MAGLEV:
        (name, _), *_ = takers
        steps.append(f"{service.scheduler}: {name} is the only one that takes new flows")
        return Explanation(
            tuple(steps), service.name, Verdict.BALANCED, name, _target(service, name, listener)
        )
    slot = jhash.client_slot(client.address, client.port, size, gateway.hash_seed)
    name = takers[maglev.build(takers, size, gateway.hash_seed)[slot]][0]
    steps.append(f"maglev: jhash of {client} is slot {slot} of {size}, which is {name}'s")
    return Explanation(tuple(steps), service.name, Verdict.BALANCED, name, _target(service, name, listener))


def _target(service: Service, name: str, listener: Listener) -> Endpoint | None:
    node = service.node(name)
    return node.endpoint(listener) if node is not None else None
