"""Compile a gateway and the states of its nodes into what the XDP programs look up, not yet placed in the maps."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import unpack

from pointsman.model import (
    CidPolicy,
    ConnectionIdRange,
    Endpoint,
    Forward,
    Listener,
    Node,
    NodeState,
    Protocol,
    Scheduler,
    Service,
)
from pointsman.plan import maglev
from pointsman.plan.identity import ByIdentity, remembered
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels
from pointsman.plan.members import members, size_of
from pointsman.plan.turns import turns
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.abi import (
    ListenerFlag,
    NodeFlag,
    ProtocolNumber,
    ReplyFlag,
    endpoint_key,
    wire_address,
    wire_port,
)
from pointsman.plan.xdp.filter_compile import FilterEntry, filter_entry
from pointsman.plan.xdp.words import KeyTable, key_table, slot_words
from pointsman.wire.dtls import CID_OFFSET

ADDRESS = 16
"""Bytes of a key that are the address."""
NO_PORT = bytes(4)


@dataclass(frozen=True, slots=True)
class Outer:
    """The header that packets to a node are put behind, as the fields of struct node."""

    source: bytes
    encapsulation: int
    gue_port: bytes
    mss_clamp: bool

    @property
    def word(self) -> int:
        """What stands in the place of a node's ``l4_delta``: OUTER_PORT and so on of bpf/abi.h."""
        return int.from_bytes(self.gue_port, "little") | self.encapsulation << 16 | int(self.mss_clamp) << 24


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node as one listener sees it; ``seconds`` is how long a leaving one is still followed, else 0.

    ``reply_key`` is the key of what it sends, which begins with its address as the maps have it.
    """

    name: str
    label: int
    endpoint: Endpoint
    reply_key: bytes
    flags: NodeFlag
    l4_delta: int
    l3_delta: int
    reply_l4_delta: int
    reply_l3_delta: int
    seconds: int = 0
    outer: Outer | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Slots:
    """Positions in ``ListenerEntry.nodes``: Maglev's table, or turns; listeners that have the same share one."""

    count: int
    words: bytes

    @property
    def length(self) -> int:
        return len(self.words) // 8


@dataclass(frozen=True, slots=True)
class ListenerEntry:
    """One listener. ``template`` is its struct without the places that it gets in the maps."""

    service: str
    endpoint: Endpoint
    key: bytes
    protocol: ProtocolNumber
    template: abi.Listener
    nodes: tuple[NodeEntry, ...]
    ids: KeyTable
    labels: KeyTable
    slots: Slots | None
    flow_table_size: int | None
    reply_flags: ReplyFlag
    sources: tuple[bytes, ...] = ()
    """full-nat: the addresses that packets to nodes come from."""
    source_ports: tuple[int, int] = (0, 0)
    """The first one, and how many."""

    @property
    def reply_nodes(self) -> tuple[NodeEntry, ...]:
        """The nodes whose packets are told by their endpoint alone."""
        return self.nodes if self.template.forward == abi.ForwardNumber.NAT else ()

    @property
    def replying(self) -> tuple[NodeEntry, ...]:
        """The nodes whose answers come by here."""
        return self.nodes if self.template.forward < abi.ForwardNumber.DSR else ()

    filter: FilterEntry | None = None

    def stands_like(self, other: ListenerEntry) -> bool:
        """Whether the nodes are at the same endpoints, in whatever state they are."""
        return (
            [node.reply_key for node in self.nodes] == [node.reply_key for node in other.nodes]
            and (self.sources, self.source_ports) == (other.sources, other.source_ports)
            and self.template.forward == other.template.forward
        )


Compiled = Mapping[bytes, ListenerEntry]
"""Listeners by their keys."""


def compile_listeners(inputs: PlaneInputs) -> Compiled:
    """Say the gateway's meaning in entries; an unchanged service's are the same objects as before."""
    labels, seed = ByIdentity(inputs.labels), inputs.gateway.hash_seed
    ordered = {service for service, _ in (*inputs.states.exceptions, *inputs.states.shares)}
    found: dict[bytes, ListenerEntry] = {}
    for service in inputs.gateway.services:
        # What every service has in common costs nothing: one node of ten thousand is changed in a few ms.
        now = _Now.of(inputs, service) if service.name in ordered else None
        leaving = tuple(item for item in inputs.leaving if item.service == service.name)
        for entry in _unchanged(ByIdentity(service), now, labels, seed, leaving):
            found[entry.key] = entry
    return found


@dataclass(frozen=True, slots=True)
class _Now:
    """The states and shares of a service's nodes, in their order; without shares all are full."""

    states: tuple[NodeState, ...]
    shares: tuple[int, ...] = ()

    @classmethod
    def of(cls, inputs: PlaneInputs, service: Service) -> _Now:
        return cls(inputs.states.of_all(service), inputs.states.shares_of(service))


@remembered(8192)
def _unchanged(
    service: ByIdentity[Service],
    now: _Now | None,
    labels: ByIdentity[Labels],
    seed: int,
    leaving: tuple[Leaving, ...],
) -> tuple[ListenerEntry, ...]:
    own = service.value
    numbers = tuple(labels.value.of(node) for node in own.nodes)
    return _entries(service, now or _Now((NodeState.UP,) * len(own.nodes)), numbers, seed, leaving)


@remembered(8192)
def _entries(
    service: ByIdentity[Service],
    now: _Now,
    labels: tuple[int, ...],
    seed: int,
    leaving: tuple[Leaving, ...],
) -> tuple[ListenerEntry, ...]:
    """The same objects also where labels were handed out anew but are the same."""
    own = service.value
    takers = tuple(members(own, now.states, now.shares))
    slots = (
        _slots(takers, _positions(own), size_of(own), seed)
        if own.scheduler is Scheduler.MAGLEV
        else _turns(_weighed(own, takers), _positions(own))
    )
    flags = _flags(own, now.states, frozenset(name for name, _ in takers))
    weights = dict(takers)
    return tuple(
        _entry(own, listener, flags, weights, labels, seed, leaving, slots) for listener in own.listeners
    )


def _positions(service: Service) -> tuple[tuple[str, int], ...]:
    return tuple((node.name, position) for position, node in enumerate(service.nodes))


@lru_cache(maxsize=4096)
def _slots(
    rows: tuple[tuple[str, int], ...], positions: tuple[tuple[str, int], ...], size: int, seed: int
) -> Slots | None:
    if not rows:
        return None
    where = dict(positions)
    to = [where[name] for name, _ in rows]
    table = maglev.build(rows, size, seed)
    for slot, member in enumerate(table):
        table[slot] = to[member]
    return Slots(size, slot_words(table))


def _weighed(service: Service, takers: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Least connections weighs by itself: everybody has one turn."""
    if service.scheduler is Scheduler.LEAST_CONNECTIONS:
        return tuple((name, 1) for name, _ in takers)
    return takers


@lru_cache(maxsize=4096)
def _turns(rows: tuple[tuple[str, int], ...], positions: tuple[tuple[str, int], ...]) -> Slots | None:
    """The slots of schedulers that do not hash: who takes turns, in their order."""
    if not rows:
        return None
    where = dict(positions)
    to = [where[name] for name, _ in rows]
    order = array("H", [to[each] for each in turns([weight for _, weight in rows])])
    return Slots(len(order), slot_words(order))


def _entry(
    service: Service,
    listener: Listener,
    flags: tuple[NodeFlag, ...],
    weights: Mapping[str, int],
    labels: tuple[int, ...],
    seed: int,
    leaving: tuple[Leaving, ...],
    slots: Slots | None,
) -> ListenerEntry:
    protocol = ProtocolNumber.TCP if service.protocol is Protocol.TCP else ProtocolNumber.UDP
    outer = _outer(service, listener)
    nodes = [
        _node(listener, protocol, node, label, own, outer=outer, weight=weights.get(node.name))
        for node, own, label in zip(service.nodes, flags, labels, strict=True)
    ]
    nodes += [
        _node(
            listener,
            protocol,
            item.node,
            item.label,
            NodeFlag.TAKES_NAMED | NodeFlag.LEAVING,
            item.seconds,
            outer,
        )
        for item in leaving
        if item.node.endpoint(listener) is not None and item.label not in labels
    ]
    ids = {node.id: position for position, node in enumerate(service.nodes) if node.id is not None}
    by_cid = service.connection_id is not None
    return ListenerEntry(
        service.name,
        listener.endpoint,
        endpoint_key(listener.endpoint.address, listener.endpoint.port, protocol),
        protocol,
        _template(service, listener, seed),
        tuple(nodes),
        key_table(ids),
        key_table({node.label: position for position, node in enumerate(nodes)}),
        slots,
        service.flow_table_size,
        ReplyFlag.VALID | (ReplyFlag.BY_CID if by_cid else ReplyFlag(0)),
        *_sources(service, listener),
        filter=filter_entry(service),
    )


def _sources(service: Service, listener: Listener) -> tuple[tuple[bytes, ...], tuple[int, int]]:
    if service.sources is None or service.forward is not Forward.FULL_NAT:
        return (), (0, 0)
    ports = service.sources.ports
    addresses = tuple(abi.wire_address(each) for each in service.sources.of(listener.family))
    return addresses, (ports.first, ports.last - ports.first + 1)


def _flags(service: Service, states: tuple[NodeState, ...], takers: frozenset[str]) -> tuple[NodeFlag, ...]:
    return tuple(
        (NodeFlag.TAKES_NEW if state.takes_new_flows else NodeFlag(0))
        | (NodeFlag.TAKES_NAMED if state.takes_named_packets else NodeFlag(0))
        | (NodeFlag.SCHEDULED if node.name in takers else NodeFlag(0))
        for node, state in zip(service.nodes, states, strict=True)
    )


def _node(
    listener: Listener,
    protocol: int,
    node: Node,
    label: int,
    flags: NodeFlag,
    seconds: int = 0,
    outer: Outer | None = None,
    weight: int | None = None,
) -> NodeEntry:
    """``weight`` is what the scheduler weighs the node by, None where it does not pick it."""
    endpoint = node.endpoint(listener)
    if endpoint is None:
        raise ValueError(f"node {node.name} has no address of the family of {listener.endpoint}")
    vip, own = _sums(listener.endpoint), _sums(endpoint)
    words = len(endpoint.address.packed) // 2
    return NodeEntry(
        node.name,
        label,
        endpoint,
        endpoint_key(endpoint.address, endpoint.port, protocol),
        flags,
        l4_delta=_delta(vip[0] + vip[1], own[0] + own[1], words + 1),
        l3_delta=_delta(vip[0], own[0], words),
        reply_l4_delta=_delta(own[0] + own[1], vip[0] + vip[1], words + 1),
        reply_l3_delta=_delta(own[0], vip[0], words),
        seconds=seconds,
        outer=outer,
        weight=weight or max(1, node.weight),
    )


def _outer(service: Service, listener: Listener) -> Outer | None:
    if not service.forward.answers_pass_by:
        return None
    if service.tunnel is None or service.sources is None:
        return Outer(bytes(16), abi.EncapsulationNumber.NONE, bytes(2), mss_clamp=False)
    return Outer(
        wire_address(service.sources.of(listener.family)[0]),
        abi.ENCAPSULATIONS[service.tunnel.encapsulation],
        wire_port(service.tunnel.port),
        service.tunnel.mss_clamp,
    )


def _sums(endpoint: Endpoint) -> tuple[int, int]:
    """The sums of the address's and the port's 16-bit words, as they lie in memory."""
    packed = endpoint.address.packed
    return sum(unpack(f"<{len(packed) // 2}H", packed)), int.from_bytes(wire_port(endpoint.port), "little")


def _delta(old: int, new: int, words: int) -> int:
    """What a checksum changes by, from sums of so many words; see bpf/lib/checksum.h."""
    return 0xFFFF * words - old + new


def ticks(seconds: int) -> int:
    """Flow ticks that a time of so many seconds is not shorter than."""
    return math.ceil(seconds * 1_000_000_000 / (1 << abi.FLOW_TICK_SHIFT)) + 1


def _template(service: Service, listener: Listener, seed: int) -> abi.Listener:
    flags = ListenerFlag.VALID
    start = span = shift = mask = 0
    if service.connection_id is not None:
        flags |= ListenerFlag.BY_CID
        start, span, shift, mask = _id_place(service.connection_id)
    if service.cid_unknown is CidPolicy.BALANCE:
        flags |= ListenerFlag.UNKNOWN_BALANCED
    if service.cid_node_down is CidPolicy.BALANCE:
        flags |= ListenerFlag.DOWN_BALANCED
    affinity = service.affinity
    return abi.Listener(
        salt=_salt(service, listener, seed),
        flow_ticks=ticks(service.flow_timeout),
        handshake_ticks=ticks(service.handshake_timeout),
        hash_seed=seed,
        id_mask=mask,
        id_start=start,
        id_span=span,
        id_shift=shift,
        protocol=abi.KINDS[service.protocol],
        flags=flags,
        affinity_ticks=ticks(affinity.timeout) if affinity is not None else 0,
        affinity4=affinity.prefix4 if affinity is not None else 0,
        affinity6=affinity.prefix6 if affinity is not None else 0,
        scheduler=abi.SCHEDULERS[service.scheduler],
        forward=abi.FORWARDS[service.forward],
    )


def _id_place(where: ConnectionIdRange) -> tuple[int, int, int, int]:
    """Start, span, shift and mask of struct id_place."""
    first, end = where.span
    return CID_OFFSET + first, end - first, where.shift, (1 << where.bits) - 1


def _salt(service: Service, listener: Listener, seed: int) -> int:
    """Tell the flows of listeners apart, as they share one memory; secret like the seed."""
    content = f"{service.protocol} {listener.endpoint}".encode()
    digest = hashlib.blake2b(content, key=seed.to_bytes(4, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def markers(compiled: Compiled) -> tuple[set[bytes], set[bytes]]:
    """Keys that say of an address alone that it is a listener's, or a node's: for fragments, which have no ports."""
    vips = {entry.key[:ADDRESS] + NO_PORT for entry in compiled.values()}
    vips |= {source + NO_PORT for entry in compiled.values() for source in entry.sources}
    nodes = {node.reply_key[:ADDRESS] + NO_PORT for entry in compiled.values() for node in entry.replying}
    return vips, nodes
