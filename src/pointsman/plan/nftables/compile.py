"""Compile a gateway and the states of its nodes into the nftables table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pointsman.model import Endpoint, Family, Gateway, NodeState, NodeStates, Service
from pointsman.plan.identity import ByIdentity
from pointsman.plan.inputs import Capabilities, Leaving, PlaneInputs
from pointsman.plan.labels import Labels
from pointsman.plan.nftables.expressions import LABEL, WORDS
from pointsman.plan.nftables.icmp import quoted_sets, suppress_chains, suppress_rules
from pointsman.plan.nftables.names import verdict_set
from pointsman.plan.nftables.ruleset import Chain, Ruleset, Set
from pointsman.plan.nftables.service import (
    BY_FLOW,
    BY_SCHEDULER,
    ListenerChains,
    ServiceScene,
    address_chain,
    address_elements,
    cid_map,
    entry_elements,
    labels_set,
    leaving_addresses,
    leaving_elements,
    leaving_map,
    node_endpoints,
    reply_elements,
    roomy,
    sent_chain,
)
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict

ANSWER_SECONDS = 3
"""How much longer a leaving node's answers are translated than it is sent anything."""


@dataclass(frozen=True, slots=True)
class ServicePart:
    """What one service adds to the table. ``own`` are its nodes' addresses with their labels, for hairpins."""

    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    entries: Mapping[Family, Mapping[str, str]]
    replies: Mapping[Family, Mapping[str, str]]
    leaving: Mapping[Family, Mapping[str, tuple[int, str]]]
    addresses: Mapping[Family, Mapping[str, str]]
    leaving_addresses: Mapping[Family, Mapping[str, tuple[int, str]]]
    own: Mapping[Family, tuple[str, ...]]
    endpoints: Mapping[Family, frozenset[Endpoint]]


def compile_ruleset(inputs: PlaneInputs) -> Ruleset:
    """Say the gateway's meaning in nftables.

    The part of a service that did not change, and the sets that are made from all services together, are
    remembered: a change of one node among ten thousand compiles one service.
    """
    parts = [_part_of(inputs, service) for service in inputs.gateway.services]
    wide = _family_wide(ByIdentity(inputs.gateway), ByIdentity(inputs.labels), inputs.leaving)
    # The kernel finds a set by walking a list in this order, so those that most rules name come first.
    sets = {item.name: item for item in _counting_sets()}
    sets |= {item.name: item for item in wide}
    own = (item for part in parts for item in part.sets)
    for item in sorted(own, key=lambda item: 0 if item.owned_by_packets else 1 if item.content else 2):
        sets[item.name] = item
    chains: dict[str, Chain] = {}
    families = _families(parts)
    for family in families:
        for use in (BY_FLOW, BY_SCHEDULER):
            counted = f"{WORDS[family].listener} @{use}{family.value}"
            chain = Chain(sent_chain(use, family), (counted, "notrack accept"))
            chains[chain.name] = chain
        # In a chain of its own, as the kernel walks the whole map for every chain whose rules name it.
        rule = f"{WORDS[family].ip} daddr set {LABEL} map @{address_chain(family)}"
        chains[address_chain(family)] = Chain(address_chain(family), (rule,))
    for part in parts:
        for chain in part.chains:
            chains[chain.name] = chain
    leaving_families = {family for family in families if f"leaving_nodes{family.value}" in sets}
    for chain in _base_chains(families, leaving_families, inputs.capabilities):
        chains[chain.name] = chain
    return Ruleset(sets, chains)


def _counting_sets() -> Iterator[Set]:
    """The sets of ``count_always``, by the protocols that are counted there."""
    icmp = {"icmp": "", "ipv6-icmp": ""}
    yield Set(Verdict.FLOW_TABLE_FULL, "type inet_proto", {"udp": ""}, counter=True)
    yield Set(Verdict.ICMP_SUPPRESSED, "type inet_proto", icmp, counter=True)


def _part_of(inputs: PlaneInputs, service: Service) -> ServicePart:
    return _part(
        ByIdentity(service),
        inputs.states.of_all(service),
        tuple(inputs.labels.of(node) for node in service.nodes),
        inputs.gateway.hash_seed,
        tuple(item for item in inputs.leaving if item.service == service.name),
        tuple(item.label for item in inputs.retired if item.service == service.name),
    )


@lru_cache(maxsize=8192)
def _part(
    service: ByIdentity[Service],
    states: tuple[NodeState, ...],
    labels: tuple[int, ...],
    seed: int,
    leaving: tuple[Leaving, ...],
    retired: tuple[int, ...],
) -> ServicePart:
    scene = ServiceScene(service.value, states, labels, seed, leaving, retired)
    families = [family for family in Family if scene.service.listeners_of(family)]
    sets: list[Set] = []
    if scene.table is not None:
        sets.append(scene.table.as_map())
    if scene.service.connection_id is not None:
        sets += [cid_map(scene, family, scene.service.connection_id) for family in families]
    chains: list[Chain] = []
    for listener in scene.service.listeners:
        of_listener = ListenerChains(scene, listener)
        sets += of_listener.sets()
        chains += of_listener.chains()
    return ServicePart(
        tuple(sets),
        tuple(chains),
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
        {family: frozenset(node_endpoints(scene, family)) for family in families},
    )


def _families(parts: Iterable[ServicePart]) -> list[Family]:
    found = {family for part in parts for family in part.entries}
    return [family for family in Family if family in found]


@lru_cache(maxsize=4)
def _family_wide(
    gateway: ByIdentity[Gateway], labels: ByIdentity[Labels], leaving: tuple[Leaving, ...]
) -> tuple[Set, ...]:
    """The sets that hold something of every service; no state of a node is in them."""
    inputs = PlaneInputs(gateway.value, NodeStates(), labels.value, leaving)
    parts = [_part_of(inputs, service) for service in gateway.value.services]
    return tuple(item for family in _families(parts) for item in _family_wide_sets(parts, family))


def _family_wide_sets(parts: Iterable[ServicePart], family: Family) -> Iterator[Set]:
    number, pair = family.value, WORDS[family].address_and_port
    entries: dict[str, str] = {}
    replies: dict[str, str] = {}
    leaving: dict[str, tuple[int, str]] = {}
    addresses: dict[str, str] = {}
    leaving_to: dict[str, tuple[int, str]] = {}
    own: dict[str, str] = {}
    endpoints: set[Endpoint] = set()
    for part in parts:
        if family in part.entries:
            entries |= part.entries[family]
            replies |= part.replies[family]
            leaving |= part.leaving[family]
            addresses |= part.addresses[family]
            leaving_to |= part.leaving_addresses[family]
            own |= dict.fromkeys(part.own[family], "")
            endpoints |= part.endpoints[family]
    room = roomy(len(replies))
    yield Set(f"listen{number}", f"{pair} : verdict", entries, size=roomy(len(entries)))
    yield Set(f"nodes{number}", pair, dict.fromkeys(replies, ""), size=room)
    yield Set(f"reply{number}", f"{pair} : verdict", replies, counter=True, size=room)
    to_address = f"typeof {LABEL} : {WORDS[family].ip} daddr"
    yield Set(address_chain(family), to_address, addresses, size=roomy(len(addresses)))
    yield Set(labels_set(family), f"typeof {LABEL}", dict.fromkeys(addresses, ""), size=roomy(len(addresses)))
    # A node's address and port belong to one listener, so they tell the service as well.
    for use in (BY_FLOW, BY_SCHEDULER):
        yield Set(f"{use}{number}", pair, dict.fromkeys(replies, ""), counter=True, size=room)
    timed = {
        f"{key} timeout {left + ANSWER_SECONDS}s": to
        for key, (left, to) in leaving.items()
        if key not in replies
    }
    # Its endpoint may be another node's by now, or the same one's by another name: then only its flows are leaving.
    to = {f"{label} timeout {left}s": address for label, (left, address) in leaving_to.items()}
    if to:
        yield Set(leaving_map(family), to_address, to, flags="timeout")
    if timed:
        yield Set(f"leaving_nodes{number}", pair, dict.fromkeys(timed, ""), flags="timeout")
        yield Set(f"leaving_reply{number}", f"{pair} : verdict", timed, flags="timeout")
    yield Set(f"hairpin{number}", pair, own, counter=True)
    for verdict, meaning in MEANINGS.items():
        if meaning.scope is Scope.LISTENER:
            yield Set(verdict_set(verdict, family), pair, dict.fromkeys(entries, ""), counter=True)
    yield from quoted_sets(family, ((endpoint.address, endpoint.port) for endpoint in endpoints))


def _base_chains(families: list[Family], leaving: set[Family], capabilities: Capabilities) -> Iterator[Chain]:
    yield Chain("defragment", tuple(_defragment(families, capabilities)))
    from_gateway = tuple(
        f"{WORDS[family].listener} @{verdict_set(Verdict.FROM_GATEWAY, family)} accept" for family in families
    )
    yield Chain("from_gateway", from_gateway)
    for family in families:
        yield from suppress_chains(family)
    # Raw priority: before conntrack, which must not see what is rewritten here, and after defragmentation.
    prerouting = [f"{WORDS[family].listener} vmap @listen{family.value}" for family in families]
    prerouting += [_untracked_reply(family, f"nodes{family.value}") for family in families]
    prerouting += [
        _untracked_reply(family, f"leaving_nodes{family.value}") for family in families if family in leaving
    ]
    yield Chain("prerouting", tuple(prerouting), "type filter hook prerouting priority raw; policy accept;")
    # The source is rewritten behind routing: before it, a packet from the VIP would be a martian, the VIP is local.
    postrouting = [_reply(family, f"reply{family.value}") for family in families]
    postrouting += [
        _reply(family, f"leaving_reply{family.value}") for family in families if family in leaving
    ]
    postrouting += [rule for family in families for rule in suppress_rules(family)]
    yield Chain(
        "postrouting", tuple(postrouting), "type filter hook postrouting priority raw; policy accept;"
    )


def _untracked_reply(family: Family, nodes: str) -> str:
    return f"{WORDS[family].client} @{nodes} notrack accept"


def _reply(family: Family, replies: str) -> str:
    return f"{WORDS[family].client} vmap @{replies}"


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
