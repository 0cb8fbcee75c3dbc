"""Judge other people's packet filters: whether they would drop what the services forward.

Rules are read into ``Rule``, from libnftables' JSON or from ``iptables -S``, and walked with what is known of the
services' packets: their protocol, untracked but for full-nat, a node's address on one side. Whatever else a rule
asks for is taken as not holding, so that a rule about some packets (a rate, a set of addresses) neither drops nor
accepts all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from pointsman.model import Address, Family

UNTRACKED = "untracked"
DEEPEST = 32
"""Jumps within jumps; the kernel allows 16."""


class Field(StrEnum):
    """What a rule may ask about. NEVER is what none of our packets has, UNKNOWN what cannot be told."""

    FAMILY = "family"
    IIF = "iif"
    OIF = "oif"
    SADDR = "saddr"
    DADDR = "daddr"
    SPORT = "sport"
    DPORT = "dport"
    PROTOCOL = "protocol"
    STATE = "state"
    NEVER = "never"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Packet:
    """What is known of some packets where a chain sees them; None is not known."""

    family: Family
    iif: str | None = None
    oif: str | None = None
    saddr: Address | None = None
    daddr: Address | None = None
    sport: int | None = None
    dport: int | None = None
    protocol: str = "udp"
    state: str = UNTRACKED


@dataclass(frozen=True, slots=True)
class Span:
    """From ``low`` to ``high``, both included; addresses or ports."""

    low: Address | int
    high: Address | int


Value = str | Span | None
"""A word (``*`` at its end stands for anything), a span, or None for what cannot be judged."""


@dataclass(frozen=True, slots=True)
class Match:
    """One question of a rule: whether the field is one of the values."""

    field: Field
    values: tuple[Value, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> bool | None:
        """Answer it for the packet; None where that cannot be told."""
        if self.field is Field.NEVER:
            return False
        found = _known(self.field, packet)
        if found is None:
            return None
        answers = [_is(found, value) for value in self.values]
        answer = True if True in answers else None if None in answers else False
        return answer if answer is None or not self.negated else not answer


UNTOLD = Match(Field.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Rule:
    """``verdict`` is accept, drop, return, jump, goto, or "" for a rule that only does something else."""

    matches: tuple[Match, ...]
    verdict: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """A base chain with the chains of its table; ``name`` says whose it is, for people."""

    name: str
    family: str
    table: str
    chain: str
    hook: str
    policy: str
    chains: Mapping[str, tuple[Rule, ...]]
    by_iptables: str = ""


def _known(field: Field, packet: Packet) -> str | Address | int | None:
    match field:
        case Field.FAMILY:
            return f"ipv{packet.family.value}"
        case Field.UNKNOWN | Field.NEVER:
            return None
    found: str | Address | int | None = getattr(packet, field)
    return found


def _is(found: str | Address | int, value: Value) -> bool | None:
    if value is None:
        return None
    if isinstance(value, Span):
        low, high = value.low, value.high
        if isinstance(found, str) or isinstance(low, int) != isinstance(found, int):
            return None
        if isinstance(found, int):
            return int(low) <= found <= int(high)
        return low.version == found.version and int(low) <= int(found) <= int(high)  # type: ignore[union-attr]
    if value.endswith("*"):
        return str(found).startswith(value[:-1])
    return str(found) == value


def span(text: str) -> Value:
    """An address, a prefix, a port or a span of ports (``a-b``); None where it is none of these."""
    try:
        low, dash, high = text.partition("-")
        if low.isdecimal():
            return Span(int(low), int(high if dash else low))
        if dash:
            return Span(ip_address(low), ip_address(high))
        network = ip_network(text, strict=False)
        return Span(network.network_address, network.broadcast_address)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a packet's way through a filter, and what brought it about."""

    dropped: bool
    why: str


def walk(filter_: Filter, packet: Packet) -> Outcome:
    """Send the packet through the filter's chains."""
    end = _walk(filter_, filter_.chain, packet, DEEPEST)
    if end is None:
        return Outcome(filter_.policy == "drop", f"its policy is {filter_.policy}")
    return end


def _walk(filter_: Filter, chain: str, packet: Packet, depth: int) -> Outcome | None:
    for number, rule in enumerate(filter_.chains.get(chain, ()), 1):
        if not all(match.holds(packet) for match in rule.matches):
            continue
        if rule.verdict in ("accept", "drop"):
            return Outcome(rule.verdict == "drop", f"rule {number} of {chain} drops them")
        if rule.verdict == "return":
            return None
        if rule.verdict in ("jump", "goto") and depth:
            end = _walk(filter_, rule.target, packet, depth - 1)
            if end is not None or rule.verdict == "goto":
                return end
    return None


def first_drop(filter_: Filter, packets: Iterable[Packet]) -> str | None:
    """Why the filter drops some of the packets, or None where it drops none."""
    return next((why for why, _ in drops(filter_, packets)), None)


def drops(filter_: Filter, packets: Iterable[Packet]) -> Iterator[tuple[str, Packet]]:
    """Why the filter drops packets: the first of each protocol and state."""
    told = set()
    for packet in packets:
        if filter_.family in ("ip", "ip6") and filter_.family != _IP_WORDS[packet.family]:
            continue
        kind = (packet.protocol, packet.state)
        if kind not in told and (outcome := walk(filter_, packet)).dropped:
            told.add(kind)
            yield outcome.why, packet


def line_to_add(filter_: Filter, protocol: str = "udp", state: str = UNTRACKED) -> str:
    """The command that lets the services' packets of a protocol and state through the filter.

    Untracked ones are the services' alone; full-nat's are known by what marks their connections.
    """
    if filter_.by_iptables:
        chain = filter_.chain
        # Docker puts its own rules before others when it starts, and the jump to this chain before its own.
        first = filter_.chains.get(chain, ())[:1]
        if first and first[0] == Rule((), "jump", "DOCKER-USER"):
            chain = "DOCKER-USER"
        table = "" if filter_.table == "filter" else f" -t {filter_.table}"
        return (
            f"{filter_.by_iptables}{table} -I {chain} -p {protocol} -m conntrack --ctstate {state.upper()} "
            f"-m comment --comment {MARK} -j ACCEPT"
        )
    return (
        f"nft insert rule {filter_.family} {filter_.table} {filter_.chain} "
        f"ct state {state} meta l4proto {protocol} accept comment {MARK}"
    )


MARK = "pointsman"
"""The comment that the offered rules carry, so that people know whose they are."""

_IP_WORDS = {Family.V4: "ip", Family.V6: "ip6"}
