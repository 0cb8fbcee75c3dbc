"""Compile a gateway and the states of its nodes into the nftables table."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pointsman.model import Endpoint, Family, Gateway, Guard, NodeStates, Service
from pointsman.plan.identity import ByIdentity, remembered
from pointsman.plan.inputs import ANSWER_SECONDS, Capabilities, Leaving, PlaneInputs, ServiceInputs
from pointsman.plan.labels import Labels
from pointsman.plan.nftables import full_nat
from pointsman.plan.nftables.affinity import networks_map
from pointsman.plan.nftables.expressions import LABEL, WORDS, FamilyWords, words_of
from pointsman.plan.nftables.filter import FilterChains
from pointsman.plan.nftables.full_nat import FullNatPart
from pointsman.plan.nftables.guard import guard_chains, guard_sets, guards_chain
from pointsman.plan.nftables.icmp import quoted_sets, suppress_chains, suppress_rules
from pointsman.plan.nftables.names import TRANSPORTS, family_name, filter_name, roomy, verdict_set
from pointsman.plan.nftables.ruleset import Chain, Ruleset, Set
from pointsman.plan.nftables.scene import ServiceScene
from pointsman.plan.nftables.service import (
    BY_FLOW,
    BY_SCHEDULER,
    FLOW_TABLE_SIZE,
    ListenerChains,
    address_chain,
    address_elements,
    address_map,
    cid_map,
    entry_elements,
    labels_set,
    leaving_addresses,
    leaving_elements,
    leaving_map,
    node_endpoints,
    reply_elements,
    sent_chain,
)
from pointsman.plan.verdicts import GUARDED, MEANINGS, Scope, Verdict


@dataclass(frozen=True, slots=True)
class ServicePart:
    """What one service adds to the table. ``own`` are its nodes' addresses with their labels, for hairpins."""

    transport: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    filtered: bool
    entries: Mapping[Family, Mapping[str, str]]
    replies: Mapping[Family, Mapping[str, str]]
    leaving: Mapping[Family, Mapping[str, tuple[int, str]]]
    addresses: Mapping[Family, Mapping[str, str]]
    leaving_addresses: Mapping[Family, Mapping[str, tuple[int, str]]]
    own: Mapping[Family, tuple[str, ...]]
    endpoints: Mapping[Family, frozenset[Endpoint]]
    full_nat: Mapping[Family, FullNatPart]

    @property
    def wires(self) -> list[FamilyWords]:
        return [words_of(family, self.transport) for family in self.entries]


def compile_ruleset(inputs: PlaneInputs) -> Ruleset:
    """Say the gateway's meaning in nftables.

    The part of a service that did not change, and the sets that are made from all services together, are
    remembered: a change of one node among ten thousand compiles one service.
    """
    parts = [_part_of(inputs, service) for service in translated(inputs.gateway)]
    wide = _family_wide(ByIdentity(inputs.gateway), ByIdentity(inputs.labels), inputs.leaving)
    # The kernel finds a set by walking a list in this order, so those that most rules name come first.
    sets = {item.name: item for item in _counting_sets()} if parts else {}
    sets |= {item.name: item for item in wide}
    own = [item for part in parts for item in part.sets]
    own += [item for guard in inputs.gateway.guards for item in guard_sets(guard)]
    for item in sorted(own, key=lambda item: 0 if item.owned_by_packets else 1 if item.content else 2):
        sets[item.name] = item
    chains: dict[str, Chain] = {}
    wires = _wires(parts)
    tracked = [words for words in wires if full_nat.translated_map(words) in sets]
    for words in wires:
        for chain in _after_choice(words, tracked=words in tracked):
            chains[chain.name] = chain
    for part in parts:
        for chain in part.chains:
            chains[chain.name] = chain
    if parts:
        for chain in _base_chains(wires, sets.keys(), inputs.capabilities):
            chains[chain.name] = chain
    for chain in _guard_chains(inputs.gateway.guards):
        chains[chain.name] = chain
    for chain in full_nat.base_chains(tracked):
        chains[chain.name] = chain
    timeouts = {
        name: text for part in parts for own in part.full_nat.values() for name, text in own.timeouts.items()
    }
    return Ruleset(sets, chains, timeouts)


def _after_choice(words: FamilyWords, *, tracked: bool) -> Iterator[Chain]:
    """What a packet meets whose node is chosen."""
    for use in (BY_FLOW, BY_SCHEDULER):
        counted = f"{words.listener} @{use}{words.tag}"
        yield Chain(sent_chain(use, words), (counted, "notrack accept"))
        if tracked:
            yield Chain(sent_chain(use, words, tracked=True), (counted, "accept"))
    # In a chain of its own, as the kernel walks the whole map for every chain whose rules name it.
    rule = f"{words.ip} daddr set {words.label} map @{address_map(words.family)}"
    yield Chain(address_chain(words), (rule,))


def _guard_chains(guards: tuple[Guard, ...]) -> Iterator[Chain]:
    for guard in guards:
        yield from guard_chains(guard).chains()
    if guards:
        yield guards_chain(guards)


def translated(gateway: Gateway) -> list[Service]:
    """The services whose packets are given their node's address; the others have tables of their own."""
    return [service for service in gateway.services if not service.forward.answers_pass_by]


def _counting_sets() -> Iterator[Set]:
    """The sets of ``count_always``, by the protocols that are counted there."""
    icmp = {"icmp": "", "ipv6-icmp": ""}
    transports = dict.fromkeys(TRANSPORTS, "")
    yield Set(Verdict.FLOW_TABLE_FULL, "type inet_proto", transports, counter=True)
    yield Set(Verdict.ICMP_SUPPRESSED, "type inet_proto", icmp, counter=True)
    yield Set(Verdict.NOT_TRACKED, "type inet_proto", transports, counter=True)


def _part_of(inputs: PlaneInputs, service: Service) -> ServicePart:
    return _part(ByIdentity(service), inputs.of(service))


@remembered(8192)
def _part(service: ByIdentity[Service], own: ServiceInputs) -> ServicePart:
    scene = ServiceScene(service.value, own)
    families = [family for family in Family if scene.service.listeners_of(family)]
    sets: list[Set] = []
    if scene.pick is not None:
        sets.append(scene.pick.table.as_map())
    if scene.service.affinity is not None:
        size = scene.service.flow_table_size or FLOW_TABLE_SIZE
        sets += [
            networks_map(f"{family_name(scene.service, family)}/networks", WORDS[family], size)
            for family in families
        ]
    if scene.service.connection_id is not None:
        sets += [cid_map(scene, family, scene.service.connection_id) for family in families]
    chains: list[Chain] = []
    of_filter = filter_chains(scene.service, tuple(families))
    if of_filter is not None:
        sets += of_filter.sets()
        chains += of_filter.chains()
    for listener in scene.service.listeners:
        of_listener = ListenerChains(scene, listener)
        sets += of_listener.sets()
        chains += of_listener.chains()
    endpoints = {family: frozenset(node_endpoints(scene, family)) for family in families}
    if scene.service.sources is not None:
        chains += [
            full_nat.service_chain(scene.service, scene.service.sources, family, own.hash_seed)
            for family in families
        ]
    return ServicePart(
        scene.transport,
        tuple(sets),
        tuple(chains),
        of_filter is not None,
        {family: entry_elements(scene, family) for family in families},
        {family: reply_elements(scene, family) for family in families},
        {family: leaving_elements(scene, family) for family in families},
        {family: address_elements(scene, family) for family in families},
        {family: leaving_addresses(scene, family) for family in families},
        {
            family: tuple(
                f"{own.address} . {label}"
                for label, node in scene.labelled()
                for own in node.addresses
                if own.family is family
            )
            for family in families
        },
        endpoints,
        {
            family: part
            for family in families
            if (part := full_nat.part_of(scene.service, family, endpoints[family])) is not None
        },
    )


def filter_chains(service: Service, families: tuple[Family, ...]) -> FilterChains | None:
    if service.filter is None:
        return None

    def count(verdict: Verdict) -> list[str]:
        return [f"{WORDS[family].listener} @{verdict_set(verdict, family)}" for family in families]

    length = service.connection_id.length if service.connection_id is not None else None
    return FilterChains(filter_name(service), service.filter, length, families, count)


def _wires(parts: Iterable[ServicePart]) -> list[FamilyWords]:
    """The families and transports that there are services of."""
    found = {words for part in parts for words in part.wires}
    every = (words_of(family, transport) for transport in TRANSPORTS for family in Family)
    return [words for words in every if words in found]


@lru_cache(maxsize=4)
def _family_wide(
    gateway: ByIdentity[Gateway], labels: ByIdentity[Labels], leaving: tuple[Leaving, ...]
) -> tuple[Set, ...]:
    """The sets that hold something of every service; no state of a node is in them."""
    inputs = PlaneInputs(gateway.value, NodeStates(), labels.value, leaving)
    parts = [_part_of(inputs, service) for service in translated(gateway.value)]
    wires = _wires(parts)
    found: list[Set] = []
    for family in Family:
        of_family = [_wire_wide(parts, words) for words in wires if words.family is family]
        if of_family:
            found += _family_wide_sets(parts, family, of_family)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _WireWide:
    """What all services of one family and transport have; ``untracked`` are nodes whose answers are notrack."""

    words: FamilyWords
    entries: Mapping[str, str]
    replies: Mapping[str, str]
    untracked: Mapping[str, str]
    leaving: Mapping[str, tuple[int, str]]
    leaving_untracked: frozenset[str]
    endpoints: frozenset[Endpoint]

    @property
    def room(self) -> int:
        return roomy(len(self.replies))

    def timed(self) -> dict[str, str]:
        """Endpoints of leaving nodes; one may be another node's by now, then only its flows are leaving."""
        return {
            f"{key} timeout {left + ANSWER_SECONDS}s": to
            for key, (left, to) in self.leaving.items()
            if key not in self.replies
        }


def _wire_wide(parts: Iterable[ServicePart], words: FamilyWords) -> _WireWide:
    entries: dict[str, str] = {}
    replies: dict[str, str] = {}
    untracked: dict[str, str] = {}
    leaving: dict[str, tuple[int, str]] = {}
    leaving_untracked: set[str] = set()
    endpoints: set[Endpoint] = set()
    for part in parts:
        if part.transport != words.transport or words.family not in part.entries:
            continue
        entries |= part.entries[words.family]
        replies |= part.replies[words.family]
        leaving |= part.leaving[words.family]
        endpoints |= part.endpoints[words.family]
        if words.family not in part.full_nat:
            untracked |= dict.fromkeys(part.replies[words.family], "")
            leaving_untracked |= part.leaving[words.family].keys()
    return _WireWide(
        words, entries, replies, untracked, leaving, frozenset(leaving_untracked), frozenset(endpoints)
    )


def _family_wide_sets(
    parts: Iterable[ServicePart], family: Family, wires: Sequence[_WireWide]
) -> Iterator[Set]:
    addresses: dict[str, str] = {}
    leaving_to: dict[str, tuple[int, str]] = {}
    filtered: dict[str, str] = {}
    own: dict[str, str] = {}
    for part in parts:
        if family in part.entries:
            if part.filtered:
                filtered |= dict.fromkeys(part.entries[family], "")
            addresses |= part.addresses[family]
            leaving_to |= part.leaving_addresses[family]
            own |= dict.fromkeys(part.own[family], "")
    pair = WORDS[family].address_and_port
    for wire in wires:
        tag, room = wire.words.tag, wire.room
        yield Set(f"listen{tag}", f"{pair} : verdict", wire.entries, size=roomy(len(wire.entries)))
        yield Set(f"nodes{tag}", pair, wire.untracked, size=room)
        yield Set(f"reply{tag}", f"{pair} : verdict", wire.replies, counter=True, size=room)
    to_address = f"typeof {LABEL} : {WORDS[family].ip} daddr"
    yield Set(address_map(family), to_address, addresses, size=roomy(len(addresses)))
    yield Set(labels_set(family), f"typeof {LABEL}", dict.fromkeys(addresses, ""), size=roomy(len(addresses)))
    # A node's address and port belong to one listener, so they tell the service as well.
    for wire in wires:
        for use in (BY_FLOW, BY_SCHEDULER):
            elements = dict.fromkeys(wire.replies, "")
            yield Set(f"{use}{wire.words.tag}", pair, elements, counter=True, size=wire.room)
    to = {f"{label} timeout {left}s": address for label, (left, address) in leaving_to.items()}
    if to:
        yield Set(leaving_map(family), to_address, to, flags="timeout")
    for wire in wires:
        yield from _leaving_sets(wire)
    yield Set(f"hairpin{family.value}", pair, own, counter=True)
    for wire in wires:
        for verdict, meaning in MEANINGS.items():
            if meaning.scope is Scope.LISTENER and "nftables" in meaning.planes and not meaning.of_filter:
                name = verdict_set(verdict, family, wire.words.transport)
                yield Set(name, pair, dict.fromkeys(wire.entries, ""), counter=True)
    # Sets for listeners that have a filter only: the kernel finds a set by walking a list.
    for verdict in GUARDED if filtered else ():
        yield Set(verdict_set(verdict, family), pair, filtered, counter=True)
    for wire in wires:
        ends = ((endpoint.address, endpoint.port) for endpoint in wire.endpoints)
        yield from quoted_sets(family, ends, wire.words.transport)
    of_full_nat = [part.full_nat[family] for part in parts if family in part.full_nat]
    yield from full_nat.wide_sets(of_full_nat, max(wire.room for wire in wires))


def _leaving_sets(wire: _WireWide) -> Iterator[Set]:
    timed, pair = wire.timed(), wire.words.address_and_port
    if not timed:
        return
    untracked = {key: "" for key in timed if key.partition(" timeout ")[0] in wire.leaving_untracked}
    yield Set(f"leaving_nodes{wire.words.tag}", pair, untracked, flags="timeout")
    yield Set(f"leaving_reply{wire.words.tag}", f"{pair} : verdict", timed, flags="timeout")


def _base_chains(
    wires: Sequence[FamilyWords], sets: Container[str], capabilities: Capabilities
) -> Iterator[Chain]:
    families = [family for family in Family if any(words.family is family for words in wires)]
    leaving = [words for words in wires if f"leaving_nodes{words.tag}" in sets]
    yield Chain("defragment", tuple(_defragment(families, capabilities)))
    from_gateway = tuple(
        f"{words.listener} @{verdict_set(Verdict.FROM_GATEWAY, words.family, words.transport)} accept"
        for words in wires
    )
    yield Chain("from_gateway", from_gateway)
    for family in families:
        transports = [words.transport for words in wires if words.family is family]
        yield from suppress_chains(family, transports)
    # Raw priority: before conntrack, which must not see what is rewritten here, and after defragmentation.
    prerouting = [f"{words.listener} vmap @listen{words.tag}" for words in wires]
    prerouting += [_untracked_reply(words, f"nodes{words.tag}") for words in wires]
    prerouting += [_untracked_reply(words, f"leaving_nodes{words.tag}") for words in leaving]
    yield Chain("prerouting", tuple(prerouting), "type filter hook prerouting priority raw; policy accept;")
    # The source is rewritten behind routing: before it, a packet from the VIP would be a martian, the VIP is local.
    postrouting = [_reply(words, f"reply{words.tag}") for words in wires]
    postrouting += [_reply(words, f"leaving_reply{words.tag}") for words in leaving]
    postrouting += [rule for family in families for rule in suppress_rules(family)]
    yield Chain(
        "postrouting", tuple(postrouting), "type filter hook postrouting priority raw; policy accept;"
    )


def _untracked_reply(words: FamilyWords, nodes: str) -> str:
    return f"{words.client} @{nodes} notrack accept"


def _reply(words: FamilyWords, replies: str) -> str:
    return f"{words.client} vmap @{replies}"


def _defragment(families: list[Family], capabilities: Capabilities) -> Iterator[str]:
    """Rules that no packet meets: their being there turns defragmentation on in this network namespace.

    A tproxy rule turns on just that; where the kernel has none, a ct rule does, and turns on connection tracking
    as well.
    """
    if not capabilities.defragment_by_tproxy:
        yield "ct state invalid"
        return
    for family in families:
        loopback = "127.0.0.1:1" if family is Family.V4 else "[::1]:1"
        yield f"meta l4proto udp tproxy {WORDS[family].ip} to {loopback}"
