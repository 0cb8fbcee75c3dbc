"""Compile a gateway and the states of its nodes into the nftables table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pointsman.model import Address, Family
from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.nftables.expressions import WORDS
from pointsman.plan.nftables.icmp import quoted_sets, suppress_chains, suppress_rules
from pointsman.plan.nftables.names import verdict_set
from pointsman.plan.nftables.ruleset import Chain, Ruleset, Set
from pointsman.plan.nftables.service import (
    BY_FLOW,
    BY_SCHEDULER,
    ListenerChains,
    ServiceScene,
    address_map,
    cid_map,
    reply_elements,
    sent_chain,
)
from pointsman.plan.nftables.tables import table_of
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict


def compile_ruleset(inputs: PlaneInputs) -> Ruleset:
    """Say the gateway's meaning in nftables."""
    gateway, states, labels = inputs.gateway, inputs.states, inputs.labels
    scenes = [
        ServiceScene(
            service,
            states,
            labels,
            table_of(service, states, labels, gateway.hash_seed),
            gateway.hash_seed,
            tuple(item for item in inputs.leaving if item.service == service.name),
        )
        for service in gateway.services
    ]
    families = [family for family in Family if any(scene.service.listeners_of(family) for scene in scenes)]
    sets: dict[str, Set] = {}
    chains: dict[str, Chain] = {}
    # The kernel finds a set by walking a list in this order, so those that every service's rules name come first.
    for family in families:
        for item in _family_wide_sets(scenes, family):
            sets[item.name] = item
    for item in _service_sets(scenes):
        sets[item.name] = item
    for family in families:
        for use in (BY_FLOW, BY_SCHEDULER):
            counted = f"{WORDS[family].listener} @{use}{family.value}"
            chain = Chain(sent_chain(use, family), (counted, "notrack accept"))
            chains[chain.name] = chain
    for scene in scenes:
        for listener in scene.service.listeners:
            for chain in ListenerChains(scene, listener).chains():
                chains[chain.name] = chain
    leaving_families = {family for family in families if f"leaving_nodes{family.value}" in sets}
    for chain in _base_chains(families, leaving_families, inputs.capabilities):
        chains[chain.name] = chain
    return Ruleset(sets, chains, (Verdict.ICMP_SUPPRESSED,))


def _service_sets(scenes: Iterable[ServiceScene]) -> Iterator[Set]:
    tables = {}
    for scene in scenes:
        if scene.table is not None and scene.table.name not in tables:
            tables[scene.table.name] = scene.table
            yield scene.table.as_map()
        for family in Family:
            if scene.service.listeners_of(family):
                yield address_map(scene, family)
                if scene.service.connection_id is not None:
                    yield cid_map(scene, family, scene.service.connection_id)
        for listener in scene.service.listeners:
            yield from ListenerChains(scene, listener).sets()


def _family_wide_sets(scenes: list[ServiceScene], family: Family) -> Iterator[Set]:
    words, number = WORDS[family], family.value
    entries: dict[str, str] = {}
    replies: dict[str, str] = {}
    leaving: dict[str, str] = {}
    own: dict[str, str] = {}
    for scene in scenes:
        replies |= reply_elements(scene, family)
        for listener in scene.service.listeners_of(family):
            chains = ListenerChains(scene, listener)
            entries[f"{listener.endpoint.address} . {listener.endpoint.port}"] = f"goto {chains.entry}"
            for item in scene.leaving:
                endpoint = item.node.endpoint(listener)
                if endpoint is not None:
                    key = f"{endpoint.address} . {endpoint.port}"
                    leaving[key] = f"{item.seconds} goto {chains.reply}"
        for node in scene.service.nodes:
            for node_address in node.addresses:
                if node_address.family is family:
                    own[f"{node_address.address} . {scene.label(node)}"] = ""
    leaving = {key: value for key, value in leaving.items() if key not in replies}
    pair = words.address_and_port
    yield Set(f"listen{number}", f"{pair} : verdict", entries)
    yield Set(f"nodes{number}", pair, dict.fromkeys(replies, ""))
    yield Set(f"reply{number}", f"{pair} : verdict", replies, counter=True)
    # A node's address and port belong to one listener, so they tell the service as well.
    for use in (BY_FLOW, BY_SCHEDULER):
        yield Set(f"{use}{number}", pair, dict.fromkeys(replies, ""), counter=True)
    if leaving:
        timed = {key: value.partition(" ") for key, value in leaving.items()}
        nodes = {f"{key} timeout {seconds}s": "" for key, (seconds, _, _) in timed.items()}
        verdicts = {f"{key} timeout {seconds}s": chain for key, (seconds, _, chain) in timed.items()}
        yield Set(f"leaving_nodes{number}", pair, nodes, flags="timeout")
        yield Set(f"leaving_reply{number}", f"{pair} : verdict", verdicts, flags="timeout")
    yield Set(f"hairpin{number}", pair, own, counter=True)
    for verdict, meaning in MEANINGS.items():
        if meaning.scope is Scope.LISTENER:
            yield Set(verdict_set(verdict, family), pair, dict.fromkeys(entries, ""), counter=True)
    yield from quoted_sets(family, _endpoints(scenes, family))


def _endpoints(scenes: Iterable[ServiceScene], family: Family) -> set[tuple[Address, int]]:
    return {
        (endpoint.address, endpoint.port)
        for scene in scenes
        for listener in scene.service.listeners_of(family)
        for node in (*scene.service.nodes, *(item.node for item in scene.leaving))
        if (endpoint := node.endpoint(listener)) is not None
    }


def _base_chains(families: list[Family], leaving: set[Family], capabilities: Capabilities) -> Iterator[Chain]:
    yield Chain("defragment", tuple(_defragment(families, capabilities)))
    from_gateway = tuple(
        f"{WORDS[family].listener} @{verdict_set(Verdict.FROM_GATEWAY, family)} accept" for family in families
    )
    yield Chain("from_gateway", from_gateway)
    for family in families:
        yield from suppress_chains(family)
    # Raw priority: before conntrack, which must not see what is rewritten here, and after defragmentation.
    prerouting = ['iif "lo" goto from_gateway']
    prerouting += [f"{WORDS[family].listener} vmap @listen{family.value}" for family in families]
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
    # What a node answers to the gateway itself stays tracked: the user's input chain may ask for that.
    words = WORDS[family]
    return f"{words.client} @{nodes} fib daddr type != local notrack"


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
