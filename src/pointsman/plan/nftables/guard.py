"""Guards: the filter before servers on this machine itself, at the hook of local delivery.

What is delivered to no socket here is not looked at, and nothing but the drop is done to a packet. Raw priority is
before connection tracking keeps an entry, so that what is dropped leaves none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pointsman.model import Family, Guard, PortRange
from pointsman.plan.nftables.filter import FilterChains
from pointsman.plan.nftables.names import guard_name
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.verdicts import GUARDED, Verdict

HOOK = "type filter hook input priority raw; policy accept;"


def guard_verdict_set(guard: Guard, verdict: Verdict) -> str:
    return f"{guard_name(guard)}/{verdict}"


def guard_chains(guard: Guard) -> FilterChains:
    """The guard's filter; connection IDs have whatever length its server gave them."""

    def count(verdict: Verdict) -> list[str]:
        return [f"meta l4proto @{guard_verdict_set(guard, verdict)}"]

    return FilterChains(f"{guard_name(guard)}/filter", guard.filter, None, tuple(Family), count)


def guard_sets(guard: Guard) -> Iterator[Set]:
    for verdict in GUARDED:
        yield Set(guard_verdict_set(guard, verdict), "type inet_proto", {"udp": ""}, counter=True)
    yield from guard_chains(guard).sets()


def guards_chain(guards: tuple[Guard, ...]) -> Chain:
    """The chain that packets enter by; no two guards have an interface and a port in common."""
    return Chain("guards", tuple(_entry(guard) for guard in guards), HOOK)


def _entry(guard: Guard) -> str:
    names = _one_or_more(f'"{name}"' for name in guard.interfaces)
    ports = _one_or_more(map(str, _merged(guard.ports)))
    return f"iifname {names} udp dport {ports} jump {guard_name(guard)}/filter"


def _merged(ports: tuple[PortRange, ...]) -> list[PortRange]:
    """Ranges that overlap, or touch, as one."""
    found: list[PortRange] = []
    for each in sorted(ports, key=lambda one: one.first):
        if found and each.first <= found[-1].last + 1:
            last = found.pop()
            each = PortRange(last.first, max(last.last, each.last))
        found.append(each)
    return found


def _one_or_more(values: Iterable[str]) -> str:
    listed = list(values)
    return listed[0] if len(listed) == 1 else f"{{ {', '.join(listed)} }}"
