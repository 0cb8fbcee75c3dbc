"""The XDP data plane; see docs/ARCHITECTURE.md, "The XDP plane"."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pointsman.dataplane.protocol import Clients, Count, FlowCount, merged
from pointsman.dataplane.xdp_change import change
from pointsman.dataplane.xdp_connections import are_wanted, set_counting
from pointsman.dataplane.xdp_filters import FilterStep, Guarding, adopt_guards, guard_number, guarding
from pointsman.dataplane.xdp_flows import flows
from pointsman.dataplane.xdp_guards import GuardPorts
from pointsman.dataplane.xdp_maps import (
    CONFIRM_SECONDS,
    GUARD,
    ICMP_RATE,
    MAIN,
    NEXT_HOP_SECONDS,
    MapSet,
    coarse_clock,
    jiffies,
    object_digest,
)
from pointsman.dataplane.xdp_ports import Attached, Ports
from pointsman.dataplane.xdp_samples import Named, named
from pointsman.dataplane.xdp_translations import add_blocks, drop_blocks, take_over, take_what_came_since
from pointsman.kernel import bpffs, iproute
from pointsman.kernel.bpf import RingBuffer, unpin
from pointsman.kernel.errors import KernelError
from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp import abi, elements
from pointsman.plan.xdp.blocks import Block, Wanted, wanted_blocks
from pointsman.plan.xdp.compile import Compiled, compile_listeners, markers
from pointsman.plan.xdp.describe import describe_change, describe_guards
from pointsman.plan.xdp.filter_compile import guard_entries
from pointsman.plan.xdp.filters import filters
from pointsman.plan.xdp.place import (
    FullError,
    Layout,
    Placed,
    Sizes,
    keep_blocks,
    place,
    shared_buckets,
    sizes_for,
)

_SET = re.compile(rf"set-(\d+)-{abi.VERSION}-([0-9a-f]+)")
"""Sets of this layout: those of another are not read, only removed."""
_VERDICTS = len(abi.LISTENER_VERDICTS)
_ANY_SET = re.compile(r"set-(\d+)-.*")


class XdpPlane:
    """Programs on the gateway's interfaces, and their maps, pinned in a folder of this network namespace."""

    name = "xdp"

    def __init__(self, folder: str) -> None:
        self._name = folder
        self._open: tuple[Path, MapSet, Layout] | None = None
        # Those that this process has seen to; somebody else's change of them is a daemon's business.
        self._interfaces: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def capabilities(self) -> Capabilities:
        return Capabilities()

    # what stands

    def _sets(self, root: Path) -> list[Path]:
        found = [(int(match[1]), path) for path in root.iterdir() if (match := _ANY_SET.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def _current(self) -> tuple[Path, MapSet, Layout] | None:
        """The newest set whose program is on an interface, else the newest; None where there is none."""
        if self._open is not None:
            return self._open
        root = bpffs.existing(self._name)
        if root is None:
            return None
        attached = Ports(root).programs() | GuardPorts(root).programs()
        usable: list[tuple[Path, MapSet]] = []
        for path in self._sets(root):
            if not _SET.fullmatch(path.name):
                continue
            with suppress(KernelError):  # a process was killed while it pinned it
                usable.append((path, MapSet.from_pins(path)))
        chosen = [
            each for each in usable if attached & {each[1].programs[name].id for name in (MAIN, GUARD)}
        ] or usable
        for path, maps in usable:
            if (path, maps) != chosen[-1]:
                maps.close()
        if not chosen:
            return None
        path, maps = chosen[-1]
        layout = maps.layout()
        adopt_guards(maps, layout)
        self._open = path, maps, layout
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
            self._interfaces = None

    def stamp(self) -> str | None:
        current = self._current()
        return current[1].stamp or None if current is not None else None

    def left_halfway(self) -> bool:
        return False

    def finish(self, have: PlaneInputs, want: PlaneInputs, stamp: str) -> None:
        """There is nothing to do: the maps of before go when the next change is made."""

    def damage(self, inputs: PlaneInputs) -> list[str]:
        root, current = bpffs.existing(self._name), self._current()
        if root is None or current is None:
            return ["the XDP programs are gone"]
        here = iproute.links()
        services = [name for name in inputs.interfaces if name in here]
        guarded = [name for name in inputs.gateway.guarded if name in here]
        loose = [
            *Ports(root).loose(current[1], services),
            *GuardPorts(root).loose(current[1], guarded),
        ]
        return [f"{name} has not our programs any more" for name in dict.fromkeys(loose)]

    def attached(self) -> list[Attached]:
        root = bpffs.existing(self._name)
        return [*Ports(root).attached(), *GuardPorts(root).attached()] if root is not None else []

    # changing it

    def transaction(self, have: PlaneInputs | None, want: PlaneInputs) -> str:
        before = compile_listeners(have) if have is not None else {}
        guards = guard_entries(have.gateway) if have is not None else ()
        return describe_change(before, compile_listeners(want)) + describe_guards(
            guards, guard_entries(want.gateway)
        )

    def apply(self, have: PlaneInputs | None, want: PlaneInputs, stamp: str) -> None:
        root = bpffs.folder(self._name)
        compiled = compile_listeners(want)
        try:
            current = self._current()
            path = self._apply(root, current, have, want, compiled, stamp)
        except KernelError:
            self.close()
            raise
        for old in self._sets(root):
            if old != path:
                _remove(old)

    def _apply(
        self,
        root: Path,
        current: tuple[Path, MapSet, Layout] | None,
        have: PlaneInputs | None,
        want: PlaneInputs,
        compiled: Compiled,
        stamp: str,
    ) -> Path:
        if current is not None and have is None and not _labels_agree(current[1], current[2], compiled):
            # What is remembered names nodes by labels that nobody knows any more.
            return self._build(root, None, want, compiled, stamp)
        if current is not None and self._serves(current, want):
            path, maps, layout = current
            # First, as it may be refused, and a change of the maps is in force at once.
            interfaces = want.interfaces, want.clients_only
            if self._interfaces != interfaces or want.gateway.guards:
                self._attach(root, maps, want)
                self._interfaces = interfaces
            before = compile_listeners(have) if have is not None else None
            try:
                change(maps, layout, before, compiled, stamp, guarding(have, want))
            except FullError:
                self.close()
                current = self._current()
            else:
                return path
        return self._build(root, current, want, compiled, stamp)

    def _serves(self, current: tuple[Path, MapSet, Layout], want: PlaneInputs) -> bool:
        """Whether the standing set is this version's, and remembers as many flows as is wanted."""
        path, _, layout = current
        match = _SET.fullmatch(path.name)
        same_program = match is not None and match[2] == object_digest()
        return same_program and layout.sizes.shared_buckets == shared_buckets(_flow_memory(want))

    def _attach(self, root: Path, maps: MapSet, want: PlaneInputs) -> None:
        guards = GuardPorts(root)
        guarded = {name for guard in want.gateway.guards for name in guard.interfaces}
        guards.leave(guarded)
        Ports(root).attach(maps, want.interfaces, want.clients_only)
        guards.attach(maps, guarded)

    def _build(
        self,
        root: Path,
        current: tuple[Path, MapSet, Layout] | None,
        want: PlaneInputs,
        compiled: Compiled,
        stamp: str,
    ) -> Path:
        """Make a set beside the standing one, then have every interface's link switched to it."""
        before, old = (current[1], current[2]) if current is not None else (None, None)
        guards = guarding(None, want)
        sizes = sizes_for(compiled.values(), _flow_memory(want), guards.want)
        if old is not None and old.sizes.shared_buckets == sizes.shared_buckets:
            fits = old.sizes.own_buckets >= sizes.own_buckets
            sizes = sizes if not fits else sizes.with_own_buckets(old.sizes.own_buckets)
        if old is not None:
            sizes = _with_translations(sizes, old, wanted_blocks(compiled))
        maps = MapSet.load(sizes, before)
        try:
            layout = Layout(sizes)
            keeps_ports = (
                before is not None and before.infos["translations"].id == maps.infos["translations"].id
            )
            if old is not None and keeps_ports:
                keep_blocks(layout, old.blocks)
            keeps_flows = before is not None and before.infos["flows"].id == maps.infos["flows"].id
            moved = fill(maps, layout, compiled, old if keeps_flows else None, guards)
            _settings(maps, sizes.shared_buckets, stamp)
            if before is not None and old is not None:
                _take_over_counters(before, old, maps, layout)
                _take_over_guards(before, maps, guards)
                if not keeps_flows:
                    _take_over_flows(before, old, maps, layout)
                if not keeps_ports:
                    take_over(before, old.blocks, maps, layout.blocks)
            counted = before is not None and before.config.flags & abi.ConfigFlag.COUNT_FLOWS
            set_counting(maps, wanted=are_wanted(compiled), known=keeps_flows and bool(counted))
            number = max((int(_number(path)) for path in self._sets(root)), default=0) + 1
            path = root / f"set-{number}-{abi.VERSION}-{object_digest()}"
            path.mkdir(mode=0o700)
            try:
                maps.pin(path)
                self._attach(root, maps, want)
            except KernelError:
                _remove(path)
                raise
            if before is not None and old is not None and not keeps_ports:
                take_what_came_since(before, old.blocks, maps, layout.blocks)
            # Only now that no program looks there any more.
            drop_blocks(maps, layout, wanted_blocks(compiled), moved)
        except BaseException:
            maps.close()
            raise
        self.close()
        self._open = path, maps, layout
        self._interfaces = want.interfaces, want.clients_only
        return path

    def remove(self) -> None:
        self.close()
        root = bpffs.existing(self._name)
        if root is None:
            return
        Ports(root).detach_all()
        GuardPorts(root).leave(())
        for path in self._sets(root):
            _remove(path)
        bpffs.remove(root)

    def memory(self) -> dict[str, int]:
        """Bytes that the maps have locked, by map."""
        current = self._current()
        return {} if current is None else {name: own.locked for name, own in current[1].maps.items()}

    def sample(self, one_in: int) -> None:
        """Have one packet in so many told of by ``events``; 0: none."""
        current = self._current()
        if current is not None:
            current[1].write_word(abi.Config.SAMPLE, one_in)

    def named(self, inputs: PlaneInputs, nodes: Collection[tuple[str, str]], one_in: int) -> list[Named]:
        """What was sampled since the last call that named one of ``nodes``; from now on one packet in so many is."""
        current = self._current()
        if current is None:
            return []
        self.sample(one_in)
        with RingBuffer(current[1].maps["events"]) as ring:
            events = [abi.Event.unpack(each) for each in ring.consume()]
        return list(named(events, current[2], inputs, nodes))

    @contextmanager
    def events(self) -> Iterator[Callable[[int], list[abi.Event]]]:
        """Within the block, the function given waits so many ms for sampled packets and returns them."""
        current = self._current()
        if current is None:
            raise KernelError("no XDP program of ours is here to tell of packets")
        with RingBuffer(current[1].maps["events"]) as ring:
            yield lambda timeout: [abi.Event.unpack(each) for each in ring.poll(timeout)]

    # flows and counters

    def flows(self, inputs: PlaneInputs) -> list[FlowCount]:
        current = self._current()
        return [] if current is None else flows(current[1], current[2], inputs)

    def clients(self, inputs: PlaneInputs, service: str, node: str) -> Clients:
        mine = (one.flows for one in self.flows(inputs) if service in one.services and one.node == node)
        return Clients([], sum(mine))

    def counts(self, inputs: PlaneInputs) -> list[Count]:
        current = self._current()
        if current is None:
            return []
        _, maps, layout = current
        found: list[Count] = []
        for key, entry in compile_listeners(inputs).items():
            placed = layout.placed.get(key)
            if placed is None:
                continue
            values = maps.counters("listener_counts", placed.counts, len(abi.LISTENER_VERDICTS))
            owner = str(entry.endpoint)
            found += _counts(entry.service, owner, abi.LISTENER_VERDICTS, values)
            for node in entry.nodes:
                if not node.seconds and node.label in placed.hot:
                    values = maps.counters("hot", placed.hot[node.label], len(abi.NODE_VERDICTS))
                    found += _counts(entry.service, node.name, abi.NODE_VERDICTS, values)
        for guard in (guards := guarding(None, inputs)).want:
            number = guard_number(maps, guard, guards.indexes)
            if number:
                values = maps.counters("listener_counts", maps.filter_rule(number).counts, _VERDICTS)
                found += _counts("", guard.name, abi.LISTENER_VERDICTS, values)
        values = maps.counters("gateway_counts", 0, len(abi.GATEWAY_VERDICTS))
        found += _counts("", "", abi.GATEWAY_VERDICTS, values)
        return merged(found)


def _with_translations(sizes: Sizes, old: Layout, wanted: Wanted) -> Sizes:
    """Keep the size, and with it the map and what is in it, where everything finds its place beside what stands."""
    if not wanted:
        return sizes
    room = Layout(replace(sizes, translations=old.sizes.translations))
    keep_blocks(room, old.blocks)
    try:
        for key, (port, ports) in wanted.items():
            standing = room.blocks.get(key)
            if standing is None or (standing.port, standing.ports) != (port, ports):
                room.translations.take(ports)
    except FullError:
        # Not by chance the same size again, in which there was no room.
        return replace(
            sizes, translations=sizes.translations + (sizes.translations == old.sizes.translations)
        )
    return room.sizes


def _flow_memory(inputs: PlaneInputs) -> int:
    """Flows that are to be remembered; guards alone have none."""
    return inputs.gateway.flow_memory if inputs.gateway.services else 0


def _labels_agree(maps: MapSet, layout: Layout, compiled: Compiled) -> bool:
    """Whether the labels in the maps mean the nodes that they are to mean."""
    wanted = {(key, node.label): node.reply_key for key, entry in compiled.items() for node in entry.nodes}
    return all(
        wanted.get((key, node.label), node.reply_key(key)) == node.reply_key(key)
        for key, placed in layout.placed.items()
        for node in maps.nodes_at(placed)
    )


def _counts(
    service: str, subject: str, verdicts: Iterable[Verdict], values: Iterable[tuple[int, int]]
) -> Iterator[Count]:
    for verdict, (packets, size) in zip(verdicts, values, strict=True):
        yield Count(service, subject, verdict, packets, size)


def fill(
    maps: MapSet,
    layout: Layout,
    compiled: Compiled,
    old: Layout | None,
    guards: Guarding = Guarding(),  # noqa: B008 - frozen
) -> dict[bytes, Block]:
    """Write everything into a new set that no packet sees yet; flows stay where ``old`` has them.

    Returns the blocks of translations that were moved, to be dropped once nobody uses the former set.
    """
    now = coarse_clock()
    listeners: dict[bytes, bytes] = {}
    replies: dict[bytes, bytes] = {}
    kept = old.placed if old is not None else {}
    # Those that keep their place first, or others could be put there.
    ordered = sorted(compiled, key=lambda key: key not in kept)
    written: set[int] = set()
    filtering = FilterStep(maps, layout)
    filtering.place({}, compiled, guards)
    filtering.write_aside()
    filtering.stage(1)
    filtering.settle(0)
    for key in ordered:
        entry = compiled[key]
        placed = place(
            layout,
            entry,
            flows=kept[key].flows if key in kept else None,
            filter_=filtering.by_service.get(entry.service),
        )
        layout.placed[key] = placed
        elements.write(maps, entry, placed, now, written)
        listeners[key] = elements.listener(entry, placed)
    wanted = wanted_blocks(compiled)
    moved = add_blocks(maps, layout, wanted)
    for key, block in layout.blocks.items():
        if key in wanted:
            maps.maps["blocks"].update(key, block.pack())
    replies = elements.all_replies(compiled, layout.placed, now)
    maps.write("filters", 0, filters(compiled))
    vips, nodes = markers(compiled)
    _load(maps, "listeners", listeners, vips)
    _load(maps, "replies", replies, nodes)
    return moved


def _load(maps: MapSet, name: str, entries: Mapping[bytes, bytes], marks: Iterable[bytes]) -> None:
    size = maps.infos[name].value_size
    pairs = [(key, content * 2) for key, content in entries.items()] + [(key, bytes(size)) for key in marks]
    maps.maps[name].update_batch(
        b"".join(key for key, _ in pairs), b"".join(value for _, value in pairs), len(pairs)
    )


def _settings(maps: MapSet, shared: int, stamp: str) -> None:
    settings = abi.Config(
        hot_stride=maps.per_cpu("hot"),
        listener_stride=maps.per_cpu("listener_counts"),
        next_hop_age=jiffies(NEXT_HOP_SECONDS),
        confirm_age=jiffies(CONFIRM_SECONDS),
        destinations_mask=maps.per_cpu("destinations") - 1,
        origins_mask=maps.infos["origins"].max_entries - 1,
        icmp_rate=ICMP_RATE,
        shared_buckets=shared,
        stamp0=stamp.encode(),
    )
    maps.write("settings", 0, settings.pack())


def _take_over_counters(before: MapSet, old: Layout, maps: MapSet, new: Layout) -> None:
    for key, placed in new.placed.items():
        if (was := old.placed.get(key)) is None:
            continue
        count = len(abi.LISTENER_VERDICTS)
        maps.add_counters(
            "listener_counts", placed.counts, before.counters("listener_counts", was.counts, count)
        )
        turn = before.views["turns"][was.counts * 8 : was.counts * 8 + 8]
        maps.write("turns", placed.counts, turn)
        for label, hot in placed.hot.items():
            if label in was.hot:
                values = before.counters("hot", was.hot[label], len(abi.NODE_VERDICTS))
                maps.add_counters("hot", hot, values)
    values = before.counters("gateway_counts", 0, len(abi.GATEWAY_VERDICTS))
    maps.add_counters("gateway_counts", 0, values)


def _take_over_guards(before: MapSet, maps: MapSet, guards: Guarding) -> None:
    for guard in guards.want:
        was, now = (guard_number(own, guard, guards.indexes) for own in (before, maps))
        if was and now:
            values = before.counters("listener_counts", before.filter_rule(was).counts, _VERDICTS)
            maps.add_counters("listener_counts", maps.filter_rule(now).counts, values)


def _take_over_flows(before: MapSet, old: Layout, maps: MapSet, new: Layout) -> None:
    """Copy flows into a table of another size, as far as they are where they would be looked for."""
    for key, placed in new.placed.items():
        was: Placed | None = old.placed.get(key)
        if was is not None and (was.flows.buckets, was.flows.ways) == (
            placed.flows.buckets,
            placed.flows.ways,
        ):
            start, end = (
                was.flows.base * abi.BUCKET_SIZE,
                (was.flows.base + was.flows.buckets) * abi.BUCKET_SIZE,
            )
            maps.write("flows", placed.flows.base, before.views["flows"][start:end])


def _number(path: Path) -> str:
    match = _ANY_SET.fullmatch(path.name)
    return match[1] if match else "0"


def _remove(folder: Path) -> None:
    for pin in folder.iterdir():
        unpin(pin)
    folder.rmdir()
