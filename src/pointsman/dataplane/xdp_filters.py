"""Filters and guards in the maps: what stands, and the part of a change that they are.

A filter's content never changes in its place. What is new is written where nobody looks yet, and what is old is
taken away when nobody looks any more; a listener's `filter`, or an interface's table of guarded ports, leads to one
or the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pointsman.dataplane.xdp_maps import MapSet, coarse_clock
from pointsman.dataplane.xdp_ports import real_interfaces
from pointsman.kernel import iproute
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.xdp.abi_filter import (
    BUDGETS_SIZE,
    GUARD_PORT_WORDS,
    GUARDED,
    INTERFACE_KEY,
    PREFIX_VALUE,
    SOURCE_PORT_WORDS,
    RuleFlag,
    prefix_key,
)
from pointsman.plan.xdp.compile import Compiled
from pointsman.plan.xdp.filter_compile import FilterEntry, GuardEntry, Rows, guard_entries, guard_table
from pointsman.plan.xdp.filter_place import PlacedFilter, place_filter, release_filter
from pointsman.plan.xdp.place import Layout

_TABLE = 8 * GUARD_PORT_WORDS
_TRIES = {"prefixes4": RuleFlag.PREFIXES4, "prefixes6": RuleFlag.PREFIXES6}


@dataclass(frozen=True, slots=True)
class Guarding:
    """Guards as they stand (None: nobody knows) and as they are wanted; ``indexes`` of the interfaces, by name."""

    have: tuple[GuardEntry, ...] | None = ()
    want: tuple[GuardEntry, ...] = ()
    indexes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def guarding(have: PlaneInputs | None, want: PlaneInputs) -> Guarding:
    """The guards of both, with the interfaces as they are numbered now."""
    old = guard_entries(have.gateway) if have is not None else None
    new = guard_entries(want.gateway)
    names = {name for guard in (*(old or ()), *new) for name in guard.interfaces}
    links = iproute.links() if names else {}
    indexes = {name: tuple(link.index for link in real_interfaces([name])) for name in names if name in links}
    return Guarding(old, new, indexes)


@dataclass(frozen=True, slots=True)
class PlacedGuard:
    entry: GuardEntry
    filter: PlacedFilter
    counts: int


def standing_tables(maps: MapSet) -> dict[int, tuple[int, int]]:
    """Tables of guarded ports by interface: one for each version, -1 for none."""
    found = {}
    for key, value in maps.maps["guarded"].items_batch():
        words = GUARDED.unpack(value)
        one, other = ((word - 1) // GUARD_PORT_WORDS if word else -1 for word in words)
        found[INTERFACE_KEY.unpack(key)[0]] = one, other
    return found


def _in_force(maps: MapSet) -> dict[int, int]:
    active = maps.config.active
    return {index: both[active] for index, both in standing_tables(maps).items() if both[active] >= 0}


def guard_number(maps: MapSet, guard: GuardEntry, indexes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of the filter that guards its ports now, 0 where nothing does."""
    tables = _in_force(maps)
    for index in (index for name in guard.interfaces for index in indexes.get(name, ())):
        if index in tables:
            at = tables[index] * _TABLE + 2 * guard.ports[0][0]
            return int.from_bytes(maps.views["guard_ports"][at : at + 2], "little")
    return 0


def adopt_guards(maps: MapSet, layout: Layout) -> None:
    """Have a layout take note of the guards that stand in the maps."""
    tables = set(_in_force(maps).values())
    numbers: set[int] = set()
    for table in tables:
        numbers.update(memoryview(maps.views["guard_ports"][table * _TABLE : (table + 1) * _TABLE]).cast("H"))
    numbers.discard(0)
    layout.filters.adopt([maps.placed_filter(number, {}) for number in numbers], tables)
    layout.counts.claim(*((maps.filter_rule(number).counts, 1) for number in numbers))


@dataclass(slots=True)
class FilterStep:
    """The filters' part of one change of the maps."""

    maps: MapSet
    layout: Layout
    by_service: dict[str, PlacedFilter] = field(default_factory=dict)
    guards: list[PlacedGuard] = field(default_factory=list)
    new: list[tuple[FilterEntry, PlacedFilter, PlacedFilter | None, int]] = field(default_factory=list)
    """What is to be written: the filter, its places, what it had before, and its counters' element if a guard's."""
    tables: dict[int, tuple[int, bytes]] | None = None
    """Tables of guarded ports by interface, None where they stay as they are."""
    old_counts: list[int] = field(default_factory=list)

    def place(self, have: Compiled, want: Compiled, guarding: Guarding) -> None:
        """Find places for all that is wanted; raise FullError, with nothing written."""
        standing: dict[str, tuple[FilterEntry, PlacedFilter]] = {}
        for key, entry in have.items():
            placed = self.layout.placed.get(key)
            if entry.filter is not None and placed is not None and placed.filter is not None:
                known = self.layout.filters.placed.get(placed.filter.number, placed.filter)
                standing[entry.service] = entry.filter, known
        wanted: dict[str, tuple[FilterEntry, set[int]]] = {}
        for entry in want.values():
            if entry.filter is not None:
                wanted.setdefault(entry.service, (entry.filter, set()))[1].update(
                    node.label for node in entry.nodes
                )
        for service, (filter_, labels) in wanted.items():
            self.by_service[service] = self._place(filter_, sorted(labels), standing.get(service))
        self._place_guards(guarding)

    def _place(
        self,
        entry: FilterEntry,
        labels: Iterable[int],
        standing: tuple[FilterEntry, PlacedFilter] | None,
        counts: int = 0,
    ) -> PlacedFilter:
        before = None
        if standing is not None and (standing[0] is entry or standing[0] == entry):
            before = standing[1]
        placed = place_filter(self.layout.filters, entry, labels, before)
        if placed != before:
            self.new.append((entry, placed, before, counts))
        return placed

    def _place_guards(self, guarding: Guarding) -> None:
        before: dict[str, tuple[FilterEntry, PlacedFilter, int]] = {}
        for guard in guarding.have or ():
            number = guard_number(self.maps, guard, guarding.indexes)
            if number in self.layout.filters.placed:
                known = self.layout.filters.placed[number]
                before[guard.name] = guard.filter, known, self.maps.filter_rule(number).counts
        for guard in guarding.want:
            was = before.get(guard.name)
            counts = was[2] if was is not None else self.layout.counts.take(1)
            if was is None:
                self.maps.clear("listener_counts", counts)
            filter_ = self._place(guard.filter, (), was[:2] if was is not None else None, counts)
            self.guards.append(PlacedGuard(guard, filter_, counts))
        kept = {guard.counts for guard in self.guards}
        self.old_counts = [
            counts
            for number in self._guard_numbers()
            if (counts := self.maps.filter_rule(number).counts) not in kept
        ]
        in_force = _in_force(self.maps)
        contents = self._contents(guarding)
        unchanged = in_force.keys() == contents.keys() and all(
            self.maps.views["guard_ports"][in_force[index] * _TABLE : (in_force[index] + 1) * _TABLE]
            == content
            for index, content in contents.items()
        )
        if not unchanged:
            self.tables = {
                index: (self.layout.filters.guard_tables.take(1), content)
                for index, content in contents.items()
            }

    def _guard_numbers(self) -> set[int]:
        found: set[int] = set()
        for table in _in_force(self.maps).values():
            found.update(
                memoryview(self.maps.views["guard_ports"][table * _TABLE : (table + 1) * _TABLE]).cast("H")
            )
        return found - {0}

    def _contents(self, guarding: Guarding) -> dict[int, bytes]:
        by_index: dict[int, list[tuple[GuardEntry, int]]] = {}
        for guard in self.guards:
            indexes = {index for name in guard.entry.interfaces for index in guarding.indexes.get(name, ())}
            for index in indexes:
                by_index.setdefault(index, []).append((guard.entry, guard.filter.number))
        return {index: guard_table(rows) for index, rows in by_index.items()}

    @property
    def is_empty(self) -> bool:
        return not self.new and self.tables is None and not self._lost()

    def _numbers(self) -> set[int]:
        return {each.number for each in (*self.by_service.values(), *(guard.filter for guard in self.guards))}

    def _lost(self) -> set[int]:
        return self.layout.filters.placed.keys() - self._numbers()

    def write_aside(self) -> None:
        """Write what is new, where no packet looks yet."""
        generation = coarse_clock() >> 20 & 0xFFFFFFFF
        for entry, placed, before, counts in self.new:
            old = set(before.nodes.values()) if before is not None else set()
            for node in placed.nodes.values():
                if node not in old:
                    self.maps.write("budgets", node, bytes(BUDGETS_SIZE))
            if before is None:
                write_filter(self.maps, entry, placed, counts, generation)
        for table, content in (self.tables or {}).values():
            self.maps.write("guard_ports", table * GUARD_PORT_WORDS, content)

    def stage(self, version: int) -> None:
        """Write one version of which interfaces are guarded."""
        if self.tables is None:
            return
        standing = standing_tables(self.maps)
        for index in standing.keys() | self.tables.keys():
            words = [
                table * GUARD_PORT_WORDS + 1 if table >= 0 else 0 for table in standing.get(index, (-1, -1))
            ]
            words[version] = self.tables[index][0] * GUARD_PORT_WORDS + 1 if index in self.tables else 0
            self.maps.maps["guarded"].update(INTERFACE_KEY.pack(index), GUARDED.pack(*words))

    def settle(self, version: int) -> None:
        """The version that is out of force now is made like the other; what nobody looks at any more goes."""
        if self.tables is not None:
            old = {both[version] for both in standing_tables(self.maps).values()} - {-1}
            self.stage(version)
            for index in standing_tables(self.maps).keys() - self.tables.keys():
                self.maps.maps["guarded"].delete(INTERFACE_KEY.pack(index))
            for table in old:
                self.layout.filters.guard_tables.give(table, 1)
        for counts in self.old_counts:
            self.layout.counts.give(counts, 1)
        lost = self._lost()
        remove_prefixes(self.maps, lost)
        filters = self.layout.filters
        current = {each.number: each for each in self.by_service.values()}
        current |= {guard.filter.number: guard.filter for guard in self.guards}
        for number, placed in filters.placed.items():
            release_filter(filters, placed, current.get(number))
        filters.placed = current


def write_filter(
    maps: MapSet, entry: FilterEntry, placed: PlacedFilter, counts: int, generation: int
) -> None:
    """Write all of a filter into its place."""
    if placed.port_set is not None:
        maps.write("source_ports", placed.port_set * SOURCE_PORT_WORDS, entry.source_ports)
    if placed.total:
        maps.write("budgets", placed.total, bytes(BUDGETS_SIZE))
    for name, rows in (("prefixes4", entry.prefixes4), ("prefixes6", entry.prefixes6)):
        _write_prefixes(maps, name, placed.number, rows)
    rule = replace(
        entry.template,
        counts=counts,
        generation=generation,
        source_ports=(placed.port_set or 0) * SOURCE_PORT_WORDS,
        total=placed.total,
    )
    maps.write("filter_rules", placed.number, rule.pack())


def _write_prefixes(maps: MapSet, name: str, number: int, rows: Rows) -> None:
    keys = b"".join(prefix_key(number, length, packed) for length, packed, _ in rows)
    values = b"".join(PREFIX_VALUE.pack(said) for *_, said in rows)
    maps.maps[name].update_batch(keys, values, len(rows))


def remove_prefixes(maps: MapSet, numbers: set[int]) -> None:
    """Take away the prefixes of filters that nobody asks any more."""
    for name, flag in _TRIES.items():
        if not any(maps.filter_rule(number).flags & flag for number in numbers):
            continue
        lost = [
            key for key, _ in maps.maps[name].items_batch() if int.from_bytes(key[4:8], "little") in numbers
        ]
        maps.maps[name].delete_batch(b"".join(lost), len(lost))


def mend_guards(maps: MapSet) -> None:
    """After a change that was cut short, both versions become the one in force."""
    active = maps.config.active
    for key, value in list(maps.maps["guarded"].items_batch()):
        word = GUARDED.unpack(value)[active]
        if word:
            maps.maps["guarded"].update(key, GUARDED.pack(word, word))
        else:
            maps.maps["guarded"].delete(key)


def purge_prefixes(maps: MapSet, layout: Layout) -> None:
    """Take away prefixes of filters that are nobody's: a change that was cut short may have left them."""
    for name in _TRIES:
        lost = [
            key
            for key, _ in maps.maps[name].items_batch()
            if int.from_bytes(key[4:8], "little") not in layout.filters.placed
        ]
        maps.maps[name].delete_batch(b"".join(lost), len(lost))
