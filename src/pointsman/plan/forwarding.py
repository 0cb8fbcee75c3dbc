"""The forwarding policy as an nftables table of its own, and which of the services' packets pass it.

What nftables translated comes untracked: our own table says ``notrack`` to it at raw priority. A packet that was sent
to a node directly looks the same here but for being tracked, which no sender can change (docs/adr/0030). Packets of
full-nat services are tracked as well: direct ones to their nodes are dropped before the services' are rewritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from pointsman.model import (
    Allow,
    AllowedProtocol,
    Endpoint,
    Family,
    Forward,
    Forwarding,
    Prefix,
    Protocol,
    Service,
)
from pointsman.model.abilities import NFTABLES
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.port_sets import nft_set
from pointsman.plan.verdicts import Verdict

NAME = "pointsman-forward"
TABLE = f"inet {NAME}"
APPLIED = "applied"
VERSION = 2
"""Of the sets and chains: a table of another version is made anew."""

BEFORE_RAW = -301
"""Priority of what comes before the services' packets are rewritten."""

_IP = {Family.V4: "ip", Family.V6: "ip6"}
_ADDRESS = {Family.V4: "ipv4_addr", Family.V6: "ipv6_addr"}

Accepted = frozenset[tuple[str, Endpoint]]
"""Transport protocols and endpoints."""


@dataclass(frozen=True, slots=True)
class Accepts:
    """Of the services' packets: those to and from ``nodes``, which are untracked, and those to ``tracked`` ones."""

    nodes: Accepted = frozenset()
    tracked: Accepted = frozenset()

    def __or__(self, other: Accepts) -> Accepts:
        return Accepts(self.nodes | other.nodes, self.tracked | other.tracked)


def accepts(inputs: PlaneInputs, plane: str) -> Accepts:
    """What the services need to have forwarded; on XDP nothing: it forwards by itself."""
    found = Accepts()
    if plane != NFTABLES:
        return found
    for service in inputs.gateway.services:
        found |= _of_service(service, inputs)
    return found


def _of_service(service: Service, inputs: PlaneInputs) -> Accepts:
    protocol = "tcp" if service.protocol is Protocol.TCP else "udp"
    if service.forward.answers_pass_by:
        return Accepts()  # the gateway itself sends copies to the nodes
    leaving = [item.node for item in inputs.leaving if item.service == service.name]
    nodes = frozenset(
        (protocol, endpoint)
        for node in (*service.nodes, *leaving)
        for listener in service.listeners
        if (endpoint := node.endpoint(listener)) is not None
    )
    return Accepts(tracked=nodes) if service.forward is Forward.FULL_NAT else Accepts(nodes=nodes)


@dataclass(frozen=True, slots=True)
class ForwardTable:
    """``body`` is the table's content, ``stamp`` tells it from any other's."""

    body: str

    @property
    def stamp(self) -> str:
        return f"{VERSION}-{hashlib.blake2b(self.body.encode(), digest_size=12).hexdigest()}"

    def transaction(self, stands: str | None) -> str:
        """Put it in place of the table with the stamp that ``stands``, whose counter is kept; "" for no change."""
        if stands == self.stamp:
            return ""
        anew = stands is None or not stands.startswith(f"{VERSION}-")
        head = f"add table {TABLE}\ndelete table {TABLE}\n" if anew else ""
        return f"{head}{_skeleton()}{self.body}{_stamped(self.stamp)}"


def compile_forwarding(policy: Forwarding, passing: Accepts) -> ForwardTable:
    """Say the policy in nftables; equal arguments give equal bytes."""
    lines = [*_elements(passing)]
    names = _names(policy.interfaces)
    lines += _rules("forward", (f"iifname {names} goto judge", f"oifname {names} goto judge"))
    lines += _rules("judge", _judge(policy))
    lines += _rules("direct", _direct(names))
    return ForwardTable("\n".join(lines) + "\n")


def _skeleton() -> str:
    """What is there whatever the policy, emptied; adding what is there is no mistake to nft."""
    lines = [f"add table {TABLE}", f"add counter {TABLE} {Verdict.NOT_FORWARDED}"]
    sets = {APPLIED: "mark"}
    for family in Family:
        sets |= {
            f"{kind}{family.value}": f"inet_proto . {_ADDRESS[family]} . inet_service"
            for kind in ("nodes", "tracked")
        }
    lines += [f"add set {TABLE} {name} {{ type {kind}; }}" for name, kind in sets.items()]
    lines += [f"flush set {TABLE} {name}" for name in sets]
    hook = "{ type filter hook forward priority filter; policy accept; }"
    lines += [f"add chain {TABLE} forward {hook}", f"add chain {TABLE} judge"]
    hook = f"{{ type filter hook prerouting priority {BEFORE_RAW}; policy accept; }}"
    lines.append(f"add chain {TABLE} direct {hook}")
    lines += [f"flush chain {TABLE} {name}" for name in ("forward", "judge", "direct")]
    return "\n".join(lines) + "\n"


def _elements(passing: Accepts) -> Iterator[str]:
    for family in Family:
        rows = {
            name: [
                f"{protocol} . {endpoint.address} . {endpoint.port}"
                for protocol, endpoint in sorted(own, key=str)
                if endpoint.family is family
            ]
            for name, own in (("nodes", passing.nodes), ("tracked", passing.tracked))
        }
        for name, elements in rows.items():
            if elements:
                yield f"add element {TABLE} {name}{family.value} {{ {', '.join(elements)} }}"


def _judge(policy: Forwarding) -> Iterator[str]:
    yield "ct state established,related accept"
    for family in Family:
        ip = _IP[family]
        untracked = "ct state untracked meta l4proto"
        yield f"{untracked} . {ip} daddr . th dport @nodes{family.value} accept"
        # Where a node's answers come from a node's link: clients can write a node's address as well.
        from_node = f"{untracked} . {ip} saddr . th sport @nodes{family.value}"
        yield f"{from_node} fib saddr . iif oif exists accept"
        yield f"ct state new meta l4proto . {ip} daddr . th dport @tracked{family.value} accept"
    for one in policy.allowed:
        yield from _allowed(one)
    yield f"counter name {Verdict.NOT_FORWARDED} drop"


def _direct(names: str) -> Iterator[str]:
    """What is sent to a full-nat service's node directly: here the services' own packets still say the VIP."""
    for family in Family:
        to_node = f"meta l4proto . {_IP[family]} daddr . th dport @tracked{family.value}"
        for way in ("iifname", "fib daddr oifname"):
            yield f"{way} {names} {to_node} counter name {Verdict.NOT_FORWARDED} drop"


def _allowed(one: Allow) -> Iterator[str]:
    ends = [(one.sources, one.destinations, one.incoming, one.outgoing)]
    if one.both_ways:
        ends.append((one.destinations, one.sources, one.outgoing, one.incoming))
    for sources, destinations, incoming, outgoing in dict.fromkeys(ends):
        for addresses in _addresses(sources, destinations):
            parts = ["ct state new"]
            parts += [f"iifname {_names(incoming)}"] if incoming else []
            parts += [f"oifname {_names(outgoing)}"] if outgoing else []
            parts += [addresses] if addresses else []
            parts += _transport(one)
            yield " ".join([*parts, "accept"])


def _addresses(sources: tuple[Prefix, ...], destinations: tuple[Prefix, ...]) -> Iterator[str]:
    """The condition on addresses for each IP version that both ends have; "" where there is none."""
    if not (sources or destinations):
        yield ""
        return
    for family in Family:
        parts = []
        for word, given in (("saddr", sources), ("daddr", destinations)):
            own = [str(one) for one in _collapsed(given, family)]
            if given and not own:
                break
            if own:
                parts.append(f"{_IP[family]} {word} {{ {', '.join(own)} }}")
        else:
            yield " ".join(parts)


def _collapsed(given: Iterable[Prefix], family: Family) -> Iterator[Prefix]:
    """Without those that others hold: a set of nft's takes no overlapping intervals."""
    if family is Family.V4:
        yield from collapse_addresses(one for one in given if isinstance(one, IPv4Network))
    else:
        yield from collapse_addresses(one for one in given if isinstance(one, IPv6Network))


def _transport(one: Allow) -> list[str]:
    if one.protocol is AllowedProtocol.ANY:
        return []
    if one.protocol is AllowedProtocol.ICMP:
        return ["meta l4proto { icmp, ipv6-icmp }"]
    parts = [f"meta l4proto {one.protocol}"]
    if one.ports:
        parts.append(f"th dport {nft_set(one.ports)}")
    return parts


def _names(interfaces: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in interfaces)
    return f"{{ {quoted} }}"


def _rules(chain: str, rules: Iterable[str]) -> Iterator[str]:
    for rule in rules:
        yield f"add rule {TABLE} {chain} {rule}"


def _stamped(stamp: str) -> str:
    return f'add element {TABLE} {APPLIED} {{ 1 comment "{stamp}" }}\n'
