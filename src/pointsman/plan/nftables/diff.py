"""The smallest transaction that turns one table into another."""

from __future__ import annotations

from collections.abc import Iterator

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


def changes(have: Ruleset | None, want: Ruleset) -> str:
    """One nft transaction from ``have`` to ``want``: "" where nothing differs, all of it where nothing stands.

    The order is what nft needs to name things: new sets and chains, then elements, then rules, then what
    nothing names any more. As it is one transaction, every packet sees all of it or nothing.
    """
    if have is None:
        return render(want)
    lines = list(_lines(have, want))
    return "\n".join(lines) + "\n" if lines else ""


def _lines(have: Ruleset, want: Ruleset) -> Iterator[str]:
    table = want.table
    redefined = {
        name
        for name, item in want.sets.items()
        if name in have.sets and have.sets[name].definition() != item.definition()
    }
    fresh = [item for name, item in want.sets.items() if name not in have.sets or name in redefined]
    gone = [name for name in have.sets if name not in want.sets]
    rewritten = [
        chain
        for name, chain in want.chains.items()
        if name in have.chains and (have.chains[name] != chain or _names_any(chain, redefined))
    ]
    added = [chain for name, chain in want.chains.items() if name not in have.chains]
    removed = [name for name in have.chains if name not in want.chains]

    # A set can be deleted only when no rule names it, and a rule deleted only with its chain.
    for chain in rewritten:
        yield f"flush chain {table} {chain.name}"
    for name in removed:
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
    for name, item in want.sets.items():
        if name in have.sets and name not in redefined:
            yield from _element_lines(table, have.sets[name], item)
    for chain in (*added, *rewritten):
        for rule in chain.rules:
            yield f"add rule {table} {chain.name} {rule}"
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


def _element_lines(table: str, have: Set, want: Set) -> Iterator[str]:
    if have is want or want.content or want.owned_by_packets or have.elements == want.elements:
        return
    if "timeout" in want.flags:
        # Some may have timed out since; flushing needs no knowledge of which.
        yield f"flush {want.kind} {table} {want.name}"
        if want.elements:
            yield f"add element {table} {want.name} {{ {element_list(want.elements)} }}"
        return
    dead = {key: value for key, value in have.elements.items() if want.elements.get(key) != value}
    born = {key: value for key, value in want.elements.items() if have.elements.get(key) != value}
    if dead:
        yield f"delete element {table} {want.name} {{ {element_list(dead)} }}"
    if born:
        yield f"add element {table} {want.name} {{ {element_list(born)} }}"
