"""The tables of services whose nodes answer by themselves: ``ip pointsman`` and ``ip6 pointsman``.

Their packets keep address and port, so the node's label is written into the Ethernet source, which nobody reads any
more, and ``dup`` sends a copy to the neighbour that the label names. ``dup`` is known to tables of these families
only, and sets to their table only (docs/adr/0029-dup-for-direct-server-return.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pointsman.model import ConnectionIdRange, Endpoint, Family, Service
from pointsman.plan.identity import ByIdentity, remembered
from pointsman.plan.inputs import PlaneInputs, ServiceInputs
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.affinity import networks_map
from pointsman.plan.nftables.compile import filter_chains
from pointsman.plan.nftables.expressions import CidBits, FamilyWords
from pointsman.plan.nftables.names import TRANSPORTS, family_name, roomy, transport_of, verdict_set
from pointsman.plan.nftables.ruleset import NAME, Chain, Ruleset, Set
from pointsman.plan.nftables.scene import ServiceScene
from pointsman.plan.nftables.service import (
    BY_CID,
    BY_FLOW,
    BY_SCHEDULER,
    FLOW_TABLE_SIZE,
    ListenerChains,
    address_elements,
    address_map,
    labels_set,
    leaving_addresses,
    leaving_map,
    sent_chain,
)
from pointsman.plan.verdicts import GUARDED, Verdict

LABEL = "@ll,48,16"
"""The first two bytes of the Ethernet source."""

TABLES = {Family.V4: f"ip {NAME}", Family.V6: f"ip6 {NAME}"}
COUNTED = (Verdict.NO_NODE, Verdict.CID_UNKNOWN, Verdict.CID_NODE_DOWN, Verdict.FROM_GATEWAY)
"""What is counted by listener, whatever the service has."""


def direct_words(family: Family, transport: str) -> FamilyWords:
    return replace(nft.words_of(family, transport), label_at=LABEL)


def direct_services(inputs: PlaneInputs, family: Family) -> list[Service]:
    return [
        service
        for service in inputs.gateway.services
        if service.forward.answers_pass_by and service.listeners_of(family)
    ]


def transports_of(services: Iterable[Service]) -> list[str]:
    found = {transport_of(service) for service in services}
    return [transport for transport in TRANSPORTS if transport in found]


def compile_direct(inputs: PlaneInputs, family: Family) -> Ruleset | None:
    """The table of a family, None where it has no such service."""
    services = direct_services(inputs, family)
    if not services:
        return None
    parts = [_part_of(inputs, service, family) for service in services]
    wires = [direct_words(family, transport) for transport in transports_of(services)]
    sets = {item.name: item for item in _shared_sets(parts, family, wires)}
    chains = {
        chain.name: chain for chain in _shared_chains(inputs, wires, leaving=leaving_map(family) in sets)
    }
    for part in parts:
        sets |= {item.name: item for item in part.sets}
        chains |= {chain.name: chain for chain in part.chains}
    entry = Chain(
        "prerouting",
        tuple(f"{words.listener} vmap @listen{words.tag}" for words in wires),
        "type filter hook prerouting priority raw; policy accept;",
    )
    chains[entry.name] = entry
    return Ruleset(sets, chains, table=TABLES[family])


@dataclass(frozen=True, slots=True)
class DirectPart:
    """What one service adds to the table of a family."""

    transport: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    filtered: bool
    entries: Mapping[str, str]
    addresses: Mapping[str, str]
    leaving: Mapping[str, tuple[int, str]]
    keys: tuple[str, ...]
    """Listener and label, as packets are counted."""


def _part_of(inputs: PlaneInputs, service: Service, family: Family) -> DirectPart:
    return _part(ByIdentity(service), family, inputs.of(service))


@remembered(8192)
def _part(service: ByIdentity[Service], family: Family, inputs: ServiceInputs) -> DirectPart:
    scene = ServiceScene(service.value, inputs)
    own = scene.service
    sets: list[Set] = []
    chains: list[Chain] = []
    if scene.pick is not None:
        table = scene.pick.table.as_map()
        sets.append(Set(table.name, f"{nft.SLOT_KEY} : {LABEL}", size=table.size, content=table.content))
    if own.affinity is not None:
        words, size = direct_words(family, scene.transport), own.flow_table_size or FLOW_TABLE_SIZE
        sets.append(networks_map(f"{family_name(own, family)}/networks", words, size))
    if own.connection_id is not None:
        sets.append(_cid_map(scene, family, own.connection_id))
    of_filter = filter_chains(own, (family,))
    if of_filter is not None:
        sets += of_filter.sets()
        chains += of_filter.chains()
    listeners = own.listeners_of(family)
    for listener in listeners:
        of_listener = DirectChains(scene, listener)
        sets += of_listener.sets()
        chains += of_listener.chains()
    return DirectPart(
        scene.transport,
        tuple(sets),
        tuple(chains),
        of_filter is not None,
        {key(one.endpoint): f"goto {DirectChains(scene, one).entry}" for one in listeners},
        address_elements(scene, family),
        leaving_addresses(scene, family),
        tuple(
            f"{key(one.endpoint)} . {label}"
            for one in listeners
            for label, _ in scene.labelled_with_leaving()
        ),
    )


def used(use: str, family: Family, transport: str) -> str:
    """The set that counts by listener and label."""
    return f"{use}{nft.words_of(family, transport).tag}"


def key(endpoint: Endpoint) -> str:
    return f"{endpoint.address} . {endpoint.port}"


def lingering_set(family: Family) -> str:
    """Labels of nodes that are leaving."""
    return f"leaving{family.value}"


def _cid_map(scene: ServiceScene, family: Family, where: ConnectionIdRange) -> Set:
    """Node id -> label, with the counters of records by node."""
    bits = CidBits(where)
    ids = {
        bits.element(node.id): str(label)
        for label, node in scene.labelled()
        if node.id is not None and any(own.family is family for own in node.addresses)
    }
    name = f"{family_name(scene.service, family)}/cid"
    return Set(name, f"typeof {bits.field} : {LABEL}", ids, size=roomy(len(ids)), counter=True)


def _shared_sets(parts: Sequence[DirectPart], family: Family, wires: Sequence[FamilyWords]) -> Iterator[Set]:
    addresses = _merged(part.addresses for part in parts)
    transports = dict.fromkeys((words.transport for words in wires), "")
    yield Set(Verdict.FLOW_TABLE_FULL, "type inet_proto", transports, counter=True)
    for words in wires:
        yield from _wire_sets([part for part in parts if part.transport == words.transport], words)
    to_address = f"typeof {LABEL} : {nft.WORDS[family].ip} daddr"
    yield Set(address_map(family), to_address, addresses, size=roomy(len(addresses)))
    yield Set(labels_set(family), f"typeof {LABEL}", dict.fromkeys(addresses, ""), size=roomy(len(addresses)))
    leaving = {
        f"{label} timeout {left}s": address
        for part in parts
        for label, (left, address) in part.leaving.items()
    }
    if leaving:
        yield Set(leaving_map(family), to_address, leaving, flags="timeout")
        yield Set(lingering_set(family), f"typeof {LABEL}", dict.fromkeys(leaving, ""), flags="timeout")


def _wire_sets(parts: Sequence[DirectPart], words: FamilyWords) -> Iterator[Set]:
    """What services of one transport share."""
    entries = _merged(part.entries for part in parts)
    filtered = _merged(part.entries for part in parts if part.filtered)
    keys = [name for part in parts for name in part.keys]
    pair = words.address_and_port
    yield Set(f"listen{words.tag}", f"{pair} : verdict", entries, size=roomy(len(entries)))
    for use in (BY_FLOW, BY_SCHEDULER):
        name = used(use, words.family, words.transport)
        counted = f"typeof {words.listener} . {LABEL}"
        yield Set(name, counted, dict.fromkeys(keys, ""), counter=True, size=roomy(len(keys)))
    for verdicts, listeners in ((COUNTED, entries), (GUARDED, filtered)):
        for verdict in verdicts if listeners else ():
            name = verdict_set(verdict, words.family, words.transport)
            yield Set(name, pair, dict.fromkeys(listeners, ""), counter=True)


def _merged(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        found |= part
    return found


def _shared_chains(inputs: PlaneInputs, wires: Sequence[FamilyWords], *, leaving: bool) -> Iterator[Chain]:
    family = wires[0].family
    loopback = "127.0.0.1:1" if family is Family.V4 else "[::1]:1"
    by_tproxy = inputs.capabilities.defragment_by_tproxy
    yield Chain(
        "defragment", (f"meta l4proto udp tproxy to {loopback}" if by_tproxy else "ct state invalid",)
    )
    from_gateway = tuple(
        f"{words.listener} @{verdict_set(Verdict.FROM_GATEWAY, family, words.transport)} accept"
        for words in wires
    )
    yield Chain("from_gateway", from_gateway)
    copy = (f"dup to {LABEL} map @{address_map(family)}", "drop")
    for words in wires:
        yield Chain(sent_chain(BY_CID, words), copy)
        for use in (BY_FLOW, BY_SCHEDULER):
            yield Chain(sent_chain(use, words), (_counted(use, words), *copy))
        if leaving:
            to_leaving = f"dup to {LABEL} map @{leaving_map(family)}"
            yield Chain(_sent_leaving(words), (_counted(BY_FLOW, words), to_leaving, "drop"))


def _counted(use: str, words: FamilyWords) -> str:
    return f"{words.listener} . {LABEL} @{used(use, words.family, words.transport)}"


def _sent_leaving(words: FamilyWords) -> str:
    return f"sent_leaving{words.tag}"


@dataclass(frozen=True)
class DirectChains(ListenerChains):
    """The rules of one listener: those of translated services, but for where the label is and how a packet leaves."""

    @cached_property
    def words(self) -> FamilyWords:
        return direct_words(self.listener.family, self.scene.transport)

    @cached_property
    def one_port(self) -> int | None:
        """Nodes listen where the clients ask."""
        return self.port

    def _reply_chains(self) -> Iterator[Chain]:
        """No reply comes by."""
        yield from ()

    def _sent(self, use: str) -> str:
        return f"goto {sent_chain(use, self.words)}"

    def _label(self, source: str) -> str:
        return f"{LABEL} set {source}"

    def _unlabel(self) -> Iterator[str]:
        """The label hides nothing that a rule looks at."""
        yield from ()

    def _left_alone(self) -> Iterator[str]:
        # Elsewhere there is no Ethernet source to write to; and a copy with no hop left must not be sent.
        yield "meta iiftype != ether accept"
        yield f"{'ip ttl' if self.listener.family is Family.V4 else 'ip6 hoplimit'} < 2 accept"

    def _from_itself(self) -> Iterator[str]:
        """A node has the VIP itself, so nothing of it comes here."""
        yield from ()

    def _to_labelled(self, use: str) -> Iterator[str]:
        yield self._deliver(use)

    def _to_named(self, bits: CidBits) -> Iterator[str]:
        to_label = f"{bits.expression} map @{family_name(self.service, self.listener.family)}/cid"
        yield f"{self._label(to_label)} {self._sent(BY_CID)}"

    def _while_leaving(self) -> str:
        labels = self._leaving_labels
        mine = str(labels[0]) if len(labels) == 1 else f"{{ {', '.join(map(str, labels))} }}"
        return f"{LABEL} {mine} {LABEL} @{lingering_set(self.listener.family)}"

    def _deliver(self, use: str) -> str:
        return self._sent(use)

    def _deliver_leaving(self) -> str:
        return f"goto {_sent_leaving(self.words)}"
