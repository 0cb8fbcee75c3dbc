"""The smallest change that turns one table into another: make before break."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.plan.nftables.ruleset import (
    Chain,
    Ruleset,
    Set,
    add_set,
    add_timeout,
    element_list,
    is_verdict_map,
    render,
)


@dataclass(frozen=True, slots=True)
class Change:
    """Two nft transactions: from ``make`` on every packet goes the new way; ``clear`` takes what none looks at then.

    A packet that is under way goes by the rules that it met first, but finds sets as they are when it looks
    (``nft_do_chain`` reads the generation once, each lookup anew). What rules of before still look for must be there
    until the last of those packets is through.
    """

    make: str = ""
    clear: str = ""

    def __bool__(self) -> bool:
        return bool(self.make or self.clear)

    def __add__(self, other: Change) -> Change:
        return Change(self.make + other.make, self.clear + other.clear)

    @property
    def text(self) -> str:
        """Both, for people."""
        return (
            f"{self.make}# once no packet is under way any more:\n{self.clear}" if self.clear else self.make
        )


def changes(have: Ruleset | None, want: Ruleset) -> Change:
    """The change from ``have`` to ``want``: none where nothing differs, all of it at once where nothing stands.

    The order is what nft needs to name things: new sets and chains, then elements, then rules; then what nothing
    names any more.
    """
    if have is None:
        return Change(render(want))
    moved, kept = _born_keys(have, want), list(_kept(have, want))
    return Change(_text(_make_lines(have, want, kept, moved)), _text(_clear_lines(have, want, kept, moved)))


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _redefined(have: Ruleset, want: Ruleset) -> set[str]:
    return {
        name
        for name, item in want.sets.items()
        if name in have.sets and have.sets[name].definition() != item.definition()
    }


def _kept(have: Ruleset, want: Ruleset) -> Iterator[tuple[Set, Set]]:
    """Sets of both whose elements are ours to compare."""
    redefined = _redefined(have, want)
    for name, item in want.sets.items():
        if name not in have.sets or name in redefined:
            continue
        before = have.sets[name]
        if before is item or item.content or item.owned_by_packets or before.elements == item.elements:
            continue
        yield before, item


def _make_lines(have: Ruleset, want: Ruleset, kept: list[tuple[Set, Set]], moved: set[str]) -> Iterator[str]:
    table = want.table
    redefined = _redefined(have, want)
    fresh = [item for name, item in want.sets.items() if name not in have.sets or name in redefined]
    rewritten = [
        chain
        for name, chain in want.chains.items()
        if name in have.chains and (have.chains[name] != chain or _names_any(chain, redefined))
    ]
    added = [chain for name, chain in want.chains.items() if name not in have.chains]
    # A set can be deleted only when no rule names it, and a rule deleted only with its chain.
    for chain in rewritten:
        yield f"flush chain {table} {chain.name}"
    for name, chain in have.chains.items():
        if name not in want.chains and _names_any(chain, redefined):
            yield f"flush chain {table} {name}"
    for name in redefined:
        yield f"delete {have.sets[name].kind} {table} {name}"
    for item in fresh:
        yield add_set(item, table)
    for name, definition in want.timeouts.items():
        if name not in have.timeouts:
            yield add_timeout(name, definition)
    for chain in added:
        hook = f" {{ {chain.hook} }}" if chain.hook else ""
        yield f"add chain {table} {chain.name}{hook}"
    for item in fresh:
        if text := item.element_text:
            yield f"add element {table} {item.name} {{ {text} }}"
    for before, after in kept:
        yield from _element_lines(table, before, after, moved)
    for chain in (*added, *rewritten):
        for rule in chain.rules:
            yield f"add rule {table} {chain.name} {rule}"


def _clear_lines(have: Ruleset, want: Ruleset, kept: list[tuple[Set, Set]], moved: set[str]) -> Iterator[str]:
    table = want.table
    gone = [name for name in have.sets if name not in want.sets]
    removed = [name for name in have.chains if name not in want.chains]
    for name in removed:
        yield f"flush chain {table} {name}"
    for before, after in kept:
        if later := _dead_later(before, after, moved):
            yield f"delete element {table} {after.name} {{ {element_list(later)} }}"
    # Verdict maps first: their elements hold chains.
    for name in sorted(gone, key=lambda name: not is_verdict_map(have.sets[name])):
        yield f"delete {have.sets[name].kind} {table} {name}"
    for name in removed:
        yield f"delete chain {table} {name}"
    for name in have.timeouts:
        if name not in want.timeouts:
            yield f"delete ct timeout {table} {name}"


def _names_any(chain: Chain, sets: set[str]) -> bool:
    return bool(sets) and any(word.removeprefix("@") in sets for rule in chain.rules for word in rule.split())


def _element_lines(table: str, have: Set, want: Set, moved: set[str]) -> Iterator[str]:
    if "timeout" in want.flags:
        # Some may have timed out since; flushing needs no knowledge of which.
        yield f"flush {want.kind} {table} {want.name}"
        if want.elements:
            yield f"add element {table} {want.name} {{ {element_list(want.elements)} }}"
        return
    later = _dead_later(have, want, moved)
    dead = {key: have.elements[key] for key in _dead(have, want) if key not in later}
    born = {key: value for key, value in want.elements.items() if have.elements.get(key) != value}
    if dead:
        yield f"delete element {table} {want.name} {{ {element_list(dead)} }}"
    if born:
        yield f"add element {table} {want.name} {{ {element_list(born)} }}"


def _dead(have: Set, want: Set) -> Iterator[str]:
    return (key for key, value in have.elements.items() if want.elements.get(key) != value)


def _dead_later(have: Set, want: Set, moved: set[str]) -> dict[str, str]:
    """What can stay until no packet is under way: nothing whose key means something else from now on.

    That is where it has another value or is in another set, as a node's endpoint is whose service goes over to
    another way of forwarding. A set that has no room for both has the new ones alone.
    """
    if "timeout" in want.flags:
        return {}
    if want.size is not None and len(have.elements.keys() | want.elements.keys()) > want.size:
        return {}
    return {
        key: value for key, value in have.elements.items() if key not in want.elements and key not in moved
    }


def _born_keys(have: Ruleset, want: Ruleset) -> set[str]:
    """Keys that come to a set, or in a new one."""
    born: set[str] = set()
    for name, item in want.sets.items():
        before = have.sets.get(name)
        if before is not item and not item.content and not item.owned_by_packets:
            born |= item.elements.keys() - (before.elements.keys() if before is not None else set())
    return born
