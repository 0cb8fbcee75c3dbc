"""An nftables table as a value, and its nft text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

FAMILY = "inet"
NAME = "pointsman"
TABLE = f"{FAMILY} {NAME}"

APPLIED = "applied"
"""The set whose one element's comment tells what the table was made from."""


SETS_A_PIECE = 100


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or a map when ``type_clause`` has a ``:``.

    ``elements`` maps keys to values (to "" in a set); a key may carry options (``timeout 9s``).
    ``limit`` is the limit that each element has for itself.
    ``owned_by_packets`` says that the packet path fills it: its elements are never compared.
    ``content`` is the whole element list as text where the name tells the content: equal names need no comparison.
    """

    name: str
    type_clause: str
    elements: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    size: int | None = None
    flags: str = ""
    counter: bool = False
    limit: str = ""
    content: str = ""
    owned_by_packets: bool = False

    @property
    def element_text(self) -> str:
        return self.content or element_list(self.elements)

    @property
    def kind(self) -> str:
        return "map" if " : " in self.type_clause else "set"

    def definition(self) -> tuple[str, ...]:
        parts = [self.type_clause]
        if self.size is not None:
            parts.append(f"size {self.size}")
        if self.flags:
            parts.append(f"flags {self.flags}")
        if self.counter:
            parts.append("counter")
        if self.limit:
            parts.append(self.limit)
        return tuple(parts)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; ``hook`` is the text of its ``type ... hook ...;`` line for a base chain."""

    name: str
    rules: tuple[str, ...]
    hook: str | None = None


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The whole table. ``table`` is its family and name; ``timeouts`` are connection tracking's, named by content."""

    sets: Mapping[str, Set]
    chains: Mapping[str, Chain]
    timeouts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    table: str = TABLE


def element(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key


def element_list(elements: Mapping[str, str]) -> str:
    return ", ".join(element(key, value) for key, value in elements.items())


def _set_lines(item: Set, *, elements: bool) -> Iterator[str]:
    yield f"\t{item.kind} {item.name} {{"
    for part in item.definition():
        yield f"\t\t{part}"
    if elements and (text := item.element_text):
        yield f"\t\telements = {{ {text} }}"
    yield "\t}"


def is_verdict_map(item: Set) -> bool:
    return item.type_clause.endswith(": verdict")


def body(ruleset: Ruleset) -> str:
    """The ruleset as nft text.

    Verdict maps are filled after the table, since their chains must be there first.
    """
    lines = [f"table {ruleset.table} {{"]
    for item in ruleset.sets.values():
        lines += _set_lines(item, elements=not is_verdict_map(item))
    for name, definition in ruleset.timeouts.items():
        lines.append(f"\tct timeout {name} {{")
        lines += [f"\t\t{part};" for part in definition.rstrip(";").split("; ")]
        lines.append("\t}")
    for chain in ruleset.chains.values():
        lines.append(f"\tchain {chain.name} {{")
        if chain.hook:
            lines.append(f"\t\t{chain.hook}")
        lines += [f"\t\t{rule}" for rule in chain.rules]
        lines.append("\t}")
    lines.append("}")
    for item in ruleset.sets.values():
        if item.elements and is_verdict_map(item):
            lines.append(f"add element {ruleset.table} {item.name} {{ {item.element_text} }}")
    return "\n".join(lines) + "\n"


def stamp(text: str) -> str:
    """The lines that write into the table what it was made from."""
    return f'flush set {TABLE} {APPLIED}\nadd element {TABLE} {APPLIED} {{ 1 comment "{text}" }}\n'


def scaffold(ruleset: Ruleset) -> tuple[Ruleset, list[str]]:
    """The ruleset as sets alone, and transactions that put them in place where no table stands.

    No rule names them yet, so no packet sees them. Large contents come in pieces: the library takes a kilobyte
    for each element of a transaction, and its time with it.
    """
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"add table {TABLE}"]
    lines += [add_set(item) for item in ruleset.sets.values()]
    pieces, large = ["\n".join(lines) + "\n"], [item for item in ruleset.sets.values() if item.content]
    for start in range(0, len(large), SETS_A_PIECE):
        piece = large[start : start + SETS_A_PIECE]
        pieces.append("".join(f"add element {TABLE} {item.name} {{ {item.content} }}\n" for item in piece))
    empty = {name: replace(item, elements=MappingProxyType({})) for name, item in ruleset.sets.items()}
    return Ruleset(empty, {}), pieces


def add_set(item: Set, table: str = TABLE) -> str:
    return f"add {item.kind} {table} {item.name} {{ {'; '.join(item.definition())}; }}"


def add_timeout(name: str, definition: str) -> str:
    return f"add ct timeout {TABLE} {name} {{ {definition} }}"


def add_applied() -> str:
    return f"add set {TABLE} {APPLIED} {{ type mark; }}\n"


def render(ruleset: Ruleset) -> str:
    """One transaction that puts the table in place whole, whatever stood there before."""
    made = f"add table {ruleset.table}\ndelete table {ruleset.table}\n{body(ruleset)}"
    return made + add_applied() if ruleset.table == TABLE else made
