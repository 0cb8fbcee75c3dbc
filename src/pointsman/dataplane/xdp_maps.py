"""One set of the XDP plane's programs and maps, and what stands in it."""

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Self

from pointsman.kernel.bpf import BpfError, Map, Object, Program, possible_cpus
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.abi_filter import GUARD_PORT_WORDS, SOURCE_PORT_WORDS, FilterRule, RuleFlag
from pointsman.plan.xdp.blocks import Block
from pointsman.plan.xdp.filter_place import FilterSizes, PlacedFilter
from pointsman.plan.xdp.place import FlowPlace, Layout, Placed, Sizes, keep_blocks

CLOCK_MONOTONIC_COARSE = 6
OBJECT = "pointsman.bpf.o"
MAIN, NEIGHBOUR, GUARD = "pointsman", "pointsman_neighbour", "pointsman_guard"
ARRAYS = (
    "settings",
    "nodes",
    "hot",
    "listener_counts",
    "gateway_counts",
    "words",
    "turns",
    "flows",
    "destinations",
    "connections",
    "origins",
    "translations",
    "ports",
    "filters",
    "filter_rules",
    "budgets",
    "source_ports",
    "guard_ports",
)
"""The maps that are mapped into this process."""

HASHES = (
    "listeners",
    "replies",
    "vlans",
    "fragments",
    "blocks",
    "translated",
    "guarded",
    "prefix_budgets",
    "peers",
)
TRIES = ("prefixes4", "prefixes6")
OTHERS = ("events", "tails", "scratch", "questions")
KEPT = ("flows", "connections", "origins", "fragments", "events", "translations", "translated")
"""What a new set takes over from the one before, where the shapes agree: all that packets have written."""

DESTINATIONS = 1 << 14
ORIGINS = 1 << 17
ICMP_RATE = 1000
NEXT_HOP_SECONDS, CONFIRM_SECONDS = 0.05, 8
"""How long a next hop is believed, and how often the kernel is given a packet for it (docs/adr/0016-next-hops.md)."""


def object_path() -> Path:
    """The compiled programs; raise BpfError where this installation has none."""
    path = Path(str(resources.files("pointsman") / "programs" / OBJECT))
    if not path.exists():
        raise BpfError(
            f"{path} is missing: this installation has no compiled XDP programs; `make programs` builds them"
        )
    return path


def object_digest() -> str:
    return hashlib.blake2b(object_path().read_bytes(), digest_size=6).hexdigest()


def coarse_clock() -> int:
    """The programs' clock: monotonic, in ns."""
    return time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)


def jiffies(seconds: float) -> int:
    """So many ticks of the kernel, which are what its coarse clock goes by; one at least."""
    return max(1, round(seconds / time.clock_getres(CLOCK_MONOTONIC_COARSE)))


class MapSet:
    """Programs and maps that belong together; mapped arrays are read and written as memory."""

    def __init__(self, programs: Mapping[str, Program], maps: Mapping[str, Map]) -> None:
        self.programs = dict(programs)
        self.maps = dict(maps)
        self.views: dict[str, mmap.mmap] = {name: self.maps[name].mmap() for name in ARRAYS}
        self.infos = {name: own.info for name, own in self.maps.items()}
        self.cpus = possible_cpus()

    @classmethod
    def load(cls, sizes: Sizes, before: MapSet | None) -> Self:
        """Load the programs with maps of these sizes, some of them those of ``before``; raise BpfError."""
        cpus = possible_cpus()
        with Object.open(object_path()) as built:
            wanted = {
                "nodes": sizes.nodes,
                "words": sizes.words,
                "turns": sizes.counts,
                "hot": sizes.hot * cpus,
                "listener_counts": sizes.counts * cpus,
                "gateway_counts": cpus,
                "flows": sizes.buckets,
                "destinations": DESTINATIONS * cpus,
                "connections": 1 << 16,
                "origins": ORIGINS,
                "listeners": sizes.listeners,
                "replies": sizes.replies,
                "translations": max(1, sizes.translations),
                "translated": max(1, sizes.translations),
                "blocks": max(1, sizes.blocks),
                "filter_rules": sizes.filters.rules,
                "budgets": sizes.filters.budgets,
                "source_ports": sizes.filters.port_sets * SOURCE_PORT_WORDS,
                "guard_ports": sizes.filters.guard_tables * GUARD_PORT_WORDS,
                "prefix_budgets": sizes.filters.prefixes,
                "peers": sizes.filters.peers,
            }
            for name, entries in wanted.items():
                built.resize(name, entries)
            for name in KEPT if before is not None else ():
                if before is not None and before.has_shape(name, built, wanted.get(name)):
                    built.reuse(name, before.maps[name].fd)
            built.load()
            maps = {name: built.map(name) for name in built.maps() if not name.startswith(".")}
            programs = {
                name: built.program(name) for name in (MAIN, NEIGHBOUR, GUARD, *abi.TAIL_PROGRAMS.values())
            }
        for tail, name in abi.TAIL_PROGRAMS.items():
            maps["tails"].update(int(tail).to_bytes(4, "little"), programs[name].as_value)
        return cls(programs, maps)

    @classmethod
    def from_pins(cls, folder: Path) -> Self:
        pins = sorted(folder.iterdir())
        programs = {path.name[2:]: Program.from_pin(path) for path in pins if path.name.startswith("p_")}
        maps = {path.name[2:]: Map.from_pin(path) for path in pins if path.name.startswith("m_")}
        missing = {*ARRAYS, *HASHES, *TRIES, *OTHERS} - maps.keys()
        missing |= {MAIN, NEIGHBOUR, GUARD, *abi.TAIL_PROGRAMS.values()} - programs.keys()
        if missing:
            raise BpfError(f"{folder} is incomplete: {', '.join(sorted(missing))} missing")
        return cls(programs, maps)

    def has_shape(self, name: str, built: Object, entries: int | None) -> bool:
        spec, info = built.maps()[name], self.infos[name]
        same = (spec.type, spec.key_size, spec.value_size) == (info.type, info.key_size, info.value_size)
        return same and info.max_entries == (entries or spec.max_entries)

    def pin(self, folder: Path) -> None:
        for name, program in self.programs.items():
            program.pin(folder / f"p_{name}")
        for name, own in self.maps.items():
            own.pin(folder / f"m_{name}")

    def close(self) -> None:
        for view in self.views.values():
            view.close()
        for handle in (*self.maps.values(), *self.programs.values()):
            handle.close()

    # settings

    @property
    def config(self) -> abi.Config:
        return abi.Config.unpack(self.views["settings"])

    def write_word(self, offset: int, value: int) -> None:
        """Write 32 bits of the settings, in one store: the programs see all of them or none."""
        memoryview(self.views["settings"])[offset : offset + 4].cast("I")[0] = value

    def write_stamp(self, version: int, stamp: str) -> None:
        start = abi.Config.STAMPS + version * abi.STAMP_BYTES
        self.views["settings"][start : start + abi.STAMP_BYTES] = stamp.encode().ljust(abi.STAMP_BYTES, b"\0")

    @property
    def stamp(self) -> str:
        config = self.config
        return (config.stamp1 if config.active else config.stamp0).rstrip(b"\0").decode()

    # elements

    def write(self, name: str, first: int, content: bytes) -> None:
        """Write elements of an array from ``first`` on."""
        start = first * self.maps[name].stride
        self.views[name][start : start + len(content)] = content

    def clear(self, name: str, element: int) -> None:
        """Zero one element of an array that has a part for each CPU."""
        stride = self.maps[name].stride
        for cpu in range(self.cpus):
            start = (cpu * self.per_cpu(name) + element) * stride
            self.views[name][start : start + stride] = bytes(stride)

    def per_cpu(self, name: str) -> int:
        return self.infos[name].max_entries // self.cpus

    def counters(self, name: str, element: int, count: int) -> list[tuple[int, int]]:
        """Packets and bytes of the first ``count`` counters of an element, all CPUs together."""
        stride, view = self.maps[name].stride, self.views[name]
        totals = [(0, 0)] * count
        for cpu in range(self.cpus):
            start = (cpu * self.per_cpu(name) + element) * stride
            own = [abi.COUNTER.unpack_from(view, start + 16 * index) for index in range(count)]
            totals = [(a + c, b + d) for (a, b), (c, d) in zip(totals, own, strict=True)]
        return totals

    def add_counters(self, name: str, element: int, values: list[tuple[int, int]]) -> None:
        """Give an element counts of the set before, on the first CPU's part."""
        start = element * self.maps[name].stride
        for index, (packets, size) in enumerate(values):
            abi.COUNTER.pack_into(self.views[name], start + 16 * index, packets, size)

    def filter_rule(self, number: int) -> FilterRule:
        return FilterRule.unpack(self.views["filter_rules"], number * self.maps["filter_rules"].stride)

    def versions(self, name: str) -> Iterator[tuple[bytes, tuple[bytes, bytes]]]:
        """Keys of ``listeners`` or ``replies`` with both versions of what they say."""
        for key, value in self.maps[name].items_batch():
            half = len(value) // 2
            yield key, (value[:half], value[half:])

    def layout(self) -> Layout:
        """Find out who has which elements, from what the listeners in force say."""
        active = self.config.active
        entries = {
            key: abi.Listener.unpack(versions[active])
            for key, versions in self.versions("listeners")
            if versions[active][abi.Listener.FLAGS_OFFSET] & abi.ListenerFlag.VALID
        }
        shared = self.config.shared_buckets
        buckets = self.infos["flows"].max_entries
        layout = Layout(
            Sizes(
                nodes=self.infos["nodes"].max_entries,
                words=self.infos["words"].max_entries,
                hot=self.per_cpu("hot"),
                counts=self.per_cpu("listener_counts"),
                shared_buckets=shared,
                own_buckets=buckets - shared,
                listeners=self.infos["listeners"].max_entries,
                replies=self.infos["replies"].max_entries,
                translations=self.infos["translations"].max_entries,
                blocks=self.infos["blocks"].max_entries,
                filters=FilterSizes(
                    rules=self.infos["filter_rules"].max_entries,
                    port_sets=self.infos["source_ports"].max_entries // SOURCE_PORT_WORDS,
                    budgets=self.infos["budgets"].max_entries,
                    prefixes=self.infos["prefix_budgets"].max_entries,
                    peers=self.infos["peers"].max_entries,
                    guard_tables=self.infos["guard_ports"].max_entries // GUARD_PORT_WORDS,
                ),
            )
        )
        layout.adopt({key: (self._placed(own), self._slots(own)) for key, own in entries.items()})
        keep_blocks(layout, {key: _block(value) for key, value in self.maps["blocks"].items_batch()})
        return layout

    def nodes_at(self, placed: Placed) -> list[abi.Node]:
        return self._nodes(placed.nodes, placed.node_count)

    def _nodes(self, first: int, count: int) -> list[abi.Node]:
        stride, view = self.maps["nodes"].stride, self.views["nodes"]
        return [abi.Node.unpack(view, (first + at) * stride) for at in range(count)]

    def _placed(self, own: abi.Listener) -> Placed:
        return Placed(
            nodes=own.nodes,
            node_count=own.node_count,
            ids=own.ids,
            ids_length=1 << own.id_bits,
            labels=own.labels,
            labels_length=1 << own.label_bits,
            slots=own.slots,
            slots_length=(own.slot_count + 3) // 4,
            counts=own.counts,
            flows=FlowPlace(
                own.flow_base,
                2 * own.flow_pairs,
                own.flow_ways,
                own=own.flow_base >= self.config.shared_buckets,
            ),
            hot={node.label: node.hot for node in self._nodes(own.nodes, own.node_count)},
            sources=own.sources,
            sources_length=2 * own.source_count,
            filter=self._filter(own) if own.filter else None,
        )

    def _filter(self, own: abi.Listener) -> PlacedFilter:
        nodes = self._nodes(own.nodes, own.node_count)
        return self.placed_filter(own.filter, {node.label: node.budget for node in nodes if node.budget})

    def placed_filter(self, number: int, nodes: Mapping[int, int]) -> PlacedFilter:
        """A filter's places, by its rule."""
        rule = self.filter_rule(number)
        has_ports = rule.flags & RuleFlag.SOURCE_PORTS
        return PlacedFilter(
            number, rule.source_ports // SOURCE_PORT_WORDS if has_ports else None, rule.total, nodes
        )

    def _slots(self, own: abi.Listener) -> bytes:
        return self.views["words"][own.slots * 8 : (own.slots + (own.slot_count + 3) // 4) * 8]


def _block(value: bytes) -> Block:
    found = abi.Block.unpack(value)
    return Block(found.first, found.port, found.ports)
