"""Change what stands in the maps in one step.

Listeners and replies hold two versions of what they say, and one word tells which is in force. A change writes the
other versions, then that word: a packet, which reads it once, sees all of the old or all of the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pointsman.dataplane.xdp_connections import are_wanted, set_counting
from pointsman.dataplane.xdp_filters import FilterStep, Guarding, mend_guards, purge_prefixes
from pointsman.dataplane.xdp_maps import MapSet, coarse_clock
from pointsman.dataplane.xdp_translations import add_blocks, drop_blocks
from pointsman.plan.xdp import abi, elements
from pointsman.plan.xdp.blocks import wanted_blocks
from pointsman.plan.xdp.compile import Compiled, ListenerEntry, markers
from pointsman.plan.xdp.filters import filters, united
from pointsman.plan.xdp.place import FullError, Layout, Placed, place, release

Changes = dict[str, tuple[Mapping[bytes, bytes], Sequence[bytes]]]
"""By map: what is to be there, and the keys of what goes."""
Marks = Mapping[str, tuple[set[bytes], set[bytes]]]
NO_GUARDS = Guarding()
NO_MARKS: Marks = {"listeners": (set(), set()), "replies": (set(), set())}


def change(
    maps: MapSet,
    layout: Layout,
    have: Compiled | None,
    want: Compiled,
    stamp: str,
    guarding: Guarding = NO_GUARDS,
) -> None:
    """Turn ``have`` (None: whatever stands) into ``want``; raise FullError, with nothing in force changed."""
    if maps.config.dirty:
        mend(maps)
        purge_prefixes(maps, layout)
        have = None
    before = have if have is not None else {}
    changed = [
        key for key, entry in want.items() if key not in layout.placed or _differs(before.get(key), entry)
    ]
    gone = [key for key in layout.placed if key not in want]
    filtering = FilterStep(maps, layout)
    filtering.place(before, want, guarding)
    if not changed and not gone and filtering.is_empty:
        maps.write_stamp(maps.config.active, stamp)
        return
    blocks = wanted_blocks(want)
    same_ends = not gone and all(key in before and before[key].stands_like(want[key]) for key in changed)
    if not same_ends:
        _check_room(maps, layout, before, want)
    now = coarse_clock()
    placed = {
        key: place(
            layout, want[key], layout.placed.get(key), filter_=filtering.by_service.get(want[key].service)
        )
        for key in changed
    }
    if not same_ends and len(blocks.keys() | layout.blocks.keys()) > maps.infos["blocks"].max_entries:
        raise FullError
    moved = add_blocks(maps, layout, blocks)
    wanted = {**layout.placed, **placed}
    for key in gone:
        del wanted[key]
    filtering.write_aside()
    _write_aside(maps, layout, want, placed, now)
    listeners = {key: elements.listener(want[key], placed[key]) for key in changed}
    replies = _replies(want, placed, wanted, now)
    counted = are_wanted(want)
    set_counting(maps, wanted=counted or bool(maps.config.flags & abi.ConfigFlag.COUNT_FLOWS))
    changes: Changes = {"listeners": (listeners, gone), "replies": (replies, [])}
    if same_ends:
        _switch(maps, stamp, NO_MARKS, changes, filtering)
    else:
        bits = filters(want)
        lost = _lost_replies(before, want, changed, gone) if have is not None else _foreign(maps, want)
        changes["replies"] = (replies, lost)
        maps.write("filters", 0, united(maps.views["filters"][: len(bits)], bits))
        _switch(maps, stamp, _marked(maps, want, have), changes, filtering)
        maps.write("filters", 0, bits)
    drop_blocks(maps, layout, blocks, moved)
    set_counting(maps, wanted=counted)
    for key in (*changed, *gone):
        if key in layout.placed:
            release(layout, layout.placed[key], placed.get(key))
    layout.placed = wanted


def _check_room(maps: MapSet, layout: Layout, before: Compiled, want: Compiled) -> None:
    """Raise FullError where the hash maps cannot hold what goes and what comes side by side."""
    old, new = markers(before), markers(want)
    listeners = len(layout.placed.keys() | want.keys()) + len(old[0] | new[0])
    ends = {
        node.reply_key
        for entries in (before, want)
        for entry in entries.values()
        for node in entry.reply_nodes
    }
    standing = 0 if before else sum(placed.node_count for placed in layout.placed.values())
    replies = standing + len(ends) + len(old[1] | new[1])
    if listeners > maps.infos["listeners"].max_entries or replies > maps.infos["replies"].max_entries:
        raise FullError


def _differs(old: ListenerEntry | None, new: ListenerEntry) -> bool:
    return old is not new and old != new


def _write_aside(
    maps: MapSet, layout: Layout, want: Compiled, placed: Mapping[bytes, Placed], now: int
) -> None:
    written: set[int] = set()
    for key, own in placed.items():
        was = layout.placed.get(key)
        for label, hot in own.hot.items():
            if was is None or was.hot.get(label) != hot:
                maps.clear("hot", hot)
        if was is None or was.counts != own.counts:
            maps.clear("listener_counts", own.counts)
            maps.write("turns", own.counts, bytes(8))
        if own.flows.own and (was is None or was.flows != own.flows):
            maps.write("flows", own.flows.base, bytes(own.flows.buckets * abi.BUCKET_SIZE))
        elements.write(maps, want[key], own, now, written)


def _replies(
    want: Compiled, placed: Mapping[bytes, Placed], wanted: Mapping[bytes, Placed], now: int
) -> dict[bytes, bytes]:
    """Replies of changed listeners; what a leaving node says never stands in another listener's way."""
    own = elements.all_replies({key: want[key] for key in placed}, wanted, now)
    leaving = {
        node.reply_key for key in placed if (entry := want[key]) for node in entry.reply_nodes if node.seconds
    }
    if leaving:
        for key, entry in want.items():
            if key not in placed:
                for node in entry.reply_nodes:
                    if not node.seconds and node.reply_key in leaving:
                        own.pop(node.reply_key, None)
    return own


def _lost_replies(
    before: Compiled, want: Compiled, changed: Iterable[bytes], gone: Iterable[bytes]
) -> list[bytes]:
    """Reply keys of the listeners that change or go, and that nobody has any more."""
    old = {node.reply_key for key in (*changed, *gone) if key in before for node in before[key].reply_nodes}
    if not old:
        return []
    return sorted(old - {node.reply_key for entry in want.values() for node in entry.reply_nodes})


def _foreign(maps: MapSet, want: Compiled) -> list[bytes]:
    """The same where it is not known what stands: by the map itself."""
    ours = {node.reply_key for entry in want.values() for node in entry.reply_nodes}
    return [key for key, _ in maps.versions("replies") if key not in ours and any(key[16:19])]


def _marked(maps: MapSet, want: Compiled, have: Compiled | None) -> Marks:
    """Marks to be set and to be taken away, by map."""
    new = markers(want)
    old = markers(have) if have is not None else (_marks_in(maps, "listeners"), _marks_in(maps, "replies"))
    return {
        name: (there - was, was - there)
        for name, there, was in (("listeners", new[0], old[0]), ("replies", new[1], old[1]))
    }


def _marks_in(maps: MapSet, name: str) -> set[bytes]:
    return {key for key, _ in maps.versions(name) if not any(key[16:19])}


def _switch(
    maps: MapSet,
    stamp: str,
    marks: Marks,
    changes: Changes,
    filtering: FilterStep,
) -> None:
    active = maps.config.active
    other = 1 - active
    maps.write_word(abi.Config.DIRTY, 1)
    for name, (new, lost) in changes.items():
        hashes = maps.maps[name]
        for key in marks[name][0]:
            hashes.update(key, bytes(maps.infos[name].value_size))
        # The version in force stays as it is, be it that there is none.
        for key, content in [*new.items(), *((key, b"") for key in lost)]:
            _write_version(maps, name, key, other, content)
    filtering.stage(other)
    maps.write_stamp(other, stamp)
    maps.write_word(abi.Config.ACTIVE, other)
    # Now the versions that nobody reads are made alike, so that the next change finds both the same.
    for name, (new, lost) in changes.items():
        hashes = maps.maps[name]
        for key, content in new.items():
            hashes.update(key, content * 2)
        for key in (*lost, *marks[name][1]):
            hashes.delete(key)
    filtering.settle(active)
    maps.write_stamp(active, stamp)
    maps.write_word(abi.Config.DIRTY, 0)


def _write_version(maps: MapSet, name: str, key: bytes, version: int, content: bytes) -> None:
    half = maps.infos[name].value_size // 2
    standing = maps.maps[name].lookup(key) or bytes(2 * half)
    content = content or bytes(half)
    halves = (standing[:half], content) if version else (content, standing[half:])
    maps.maps[name].update(key, b"".join(halves))


def mend(maps: MapSet) -> None:
    """Finish, or take back, the change of a process that was killed: both versions become the one in force."""
    active = maps.config.active
    flags = {"listeners": abi.Listener.FLAGS_OFFSET, "replies": abi.Reply.FLAGS_OFFSET}
    for name, offset in flags.items():
        hashes = maps.maps[name]
        for key, versions in list(maps.versions(name)):
            if not any(key[16:19]):
                continue  # a mark, which has no versions
            if not versions[active][offset] & 1:
                hashes.delete(key)
            elif versions[0] != versions[1]:
                hashes.update(key, versions[active] * 2)
    mend_guards(maps)
    maps.write_word(abi.Config.DIRTY, 0)
