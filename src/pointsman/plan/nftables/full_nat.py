"""full-nat: the node is chosen as for nat, and then connection tracking rewrites the source.

The destination is the node's before connection tracking sees the packet, so an entry there is between the client and
the node, and says which address and port of the gateway stand for the client. It hands those out so that no two
entries share one toward a node, and takes answers back to their clients
(docs/adr/0025-full-nat-by-choice-and-conntrack.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pointsman.model import Endpoint, Family, Service, Sources
from pointsman.plan.nftables.expressions import FamilyWords, words_of
from pointsman.plan.nftables.names import TCP, family_name, transport_of
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.verdicts import Verdict

TRANSLATE_PRIORITY = 90
TRANSLATE_HOOK = "type nat hook postrouting priority srcnat - 10; policy accept;"
"""Before a masquerade rule of somebody else's: what is translated once is not asked again."""
GUARD_HOOK = "type filter hook postrouting priority srcnat + 10; policy accept;"


@dataclass(frozen=True, slots=True)
class FullNatPart:
    """What a service with full-nat adds for one family: ``sources``, and where its nodes are."""

    words: FamilyWords
    chain: str
    sources: tuple[str, ...]
    endpoints: frozenset[Endpoint]
    timeouts: Mapping[str, str]


def sources_set(family: Family) -> str:
    return f"sources{family.value}"


def translated_map(words: FamilyWords) -> str:
    return f"full_nat{words.tag}"


def guarded_set(words: FamilyWords) -> str:
    return f"full_nat_nodes{words.tag}"


def only_ours(words: FamilyWords, answer: str) -> tuple[str, str]:
    """The rules before a reply is made the listener's: it is none, if its connection is not one of ours."""
    return f"ct reply {words.ip} daddr @{sources_set(words.family)} goto {answer}", "accept"


def source_chain(service: Service, family: Family) -> str:
    return f"{family_name(service, family)}/source"


def timeout_name(service: Service, words: FamilyWords) -> str:
    """Named by content, so one never has to change under the connections that have it."""
    return f"timeout{words.family.value}-{words.transport}-{service.flow_timeout}"


def part_of(service: Service, family: Family, endpoints: Iterable[Endpoint]) -> FullNatPart | None:
    if service.sources is None:
        return None
    words = words_of(family, transport_of(service))
    return FullNatPart(
        words,
        source_chain(service, family),
        tuple(str(address) for address in service.sources.of(family)),
        frozenset(endpoints),
        {timeout_name(service, words): _timeout(service, words)},
    )


def _timeout(service: Service, words: FamilyWords) -> str:
    """Connection tracking keeps an entry for as long as the flow is remembered."""
    seconds = service.flow_timeout
    policy = (
        f"established : {seconds}"
        if words.transport == TCP
        else f"unreplied : {seconds}, replied : {seconds}"
    )
    return f"protocol {words.transport}; l3proto {words.ip}; policy = {{ {policy} }};"


def service_chain(service: Service, sources: Sources, family: Family, seed: int) -> Chain:
    """Which address, by the client, and any of its ports that nobody has toward this node."""
    words = words_of(family, transport_of(service))
    rules = [
        "fib saddr type local accept",
        f'meta l4proto {words.transport} ct timeout set "{timeout_name(service, words)}"',
    ]
    ports = f"{sources.ports.first}-{sources.ports.last}"
    own = sources.of(family)
    for index, address in enumerate(own):
        place = f"[{address}]" if family is Family.V6 else str(address)
        last = index + 1 == len(own)
        which = (
            f"meta l4proto {words.transport}"
            if last
            else f"jhash {words.client} mod {len(own)} seed {seed ^ 0x51ED270B:#x} {index}"
        )
        rules.append(f"{which} snat {words.ip} to {place}:{ports} fully-random")
    return Chain(source_chain(service, family), tuple(rules))


def wide_sets(parts: Iterable[FullNatPart], room: int) -> Iterator[Set]:
    """What all services of a family share; ``room`` is how many elements the sets of nodes have."""
    by_wire: dict[FamilyWords, dict[str, str]] = {}
    sources: dict[str, str] = {}
    for part in parts:
        elements = by_wire.setdefault(part.words, {})
        for end in sorted(part.endpoints):
            elements[f"{end.address} . {end.port}"] = f"goto {part.chain}"
        sources |= dict.fromkeys(part.sources, "")
    for words, elements in by_wire.items():
        pair = words.address_and_port
        yield Set(translated_map(words), f"{pair} : verdict", elements, size=room)
        yield Set(guarded_set(words), pair, dict.fromkeys(elements, ""), size=room)
    for words in list(by_wire)[:1]:
        yield Set(sources_set(words.family), f"type {words.address_type}", sources)


def base_chains(wires: Iterable[FamilyWords]) -> Iterator[Chain]:
    """``wires`` are those that have services with full-nat."""
    found = list(wires)
    if not found:
        return
    translate = tuple(f"{words.listener} vmap @{translated_map(words)}" for words in found)
    yield Chain("translate", translate, TRANSLATE_HOOK)
    guard = tuple(
        f"{words.listener} @{guarded_set(words)} {words.ip} saddr != @{sources_set(words.family)} "
        f"iif != 0 meta l4proto @{Verdict.NOT_TRACKED} drop"  # 0: what the gateway sends itself
        for words in found
    )
    yield Chain("guard", guard, GUARD_HOOK)
