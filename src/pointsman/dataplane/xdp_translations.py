"""The translations of full-nat in the maps: they outlive changes, and move where their block does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from pointsman.dataplane.xdp_maps import MapSet
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.blocks import Block, Wanted, overlap
from pointsman.plan.xdp.place import Layout

SIZE = abi.Translation.FORMAT.size
NOTHING: Mapping[bytes, Block] = MappingProxyType({})
ROW = 64
"""Elements that are looked at together."""


def add_blocks(maps: MapSet, layout: Layout, wanted: Wanted) -> dict[bytes, Block]:
    """Have every wanted block in the maps, beside what is there; raise FullError. Returns those that were moved."""
    moved: dict[bytes, Block] = {}
    for key, (port, ports) in wanted.items():
        old = layout.blocks.get(key)
        if old is not None and (old.port, old.ports) == (port, ports):
            continue
        block = Block(layout.translations.take(ports), port, ports)
        write(maps, block.first, bytes(ports * SIZE))
        if old is not None:
            copy(maps, old, maps, block)
            moved[key] = old
        maps.maps["blocks"].update(key, block.pack())
        if old is not None:
            lead_to(maps, {key: block}, {key: old})
        layout.blocks[key] = block
    return moved


def drop_blocks(maps: MapSet, layout: Layout, wanted: Wanted, moved: Mapping[bytes, Block]) -> None:
    """Take away what no listener hands out of any more."""
    gone = {key: layout.blocks.pop(key) for key in list(layout.blocks) if key not in wanted}
    for key, block in gone.items():
        maps.maps["blocks"].delete(key)
        for client, _ in _shortcuts(maps, key, block):
            if _leads_into(maps, client, block):
                maps.maps["translated"].delete(client)
    for block in (*gone.values(), *moved.values()):
        write(maps, block.first, bytes(block.ports * SIZE))
        layout.translations.give(block.first, block.ports)


def write(maps: MapSet, first: int, content: bytes) -> None:
    maps.write("translations", first, content)


def copy(before: MapSet, old: Block, maps: MapSet, new: Block) -> None:
    """Copy the translations of the ports that both have."""
    source, target, count = overlap(old, new)
    write(maps, target, before.views["translations"][source * SIZE : (source + count) * SIZE])


def lead_to(maps: MapSet, blocks: Mapping[bytes, Block], former: Mapping[bytes, Block] = NOTHING) -> None:
    """Have clients' short cuts lead to the elements that are theirs, but for those who went to another node since."""
    places = {key: [block, *(old[key] for old in (former,) if key in old)] for key, block in blocks.items()}
    pairs = [
        pair
        for key, block in blocks.items()
        for pair in _shortcuts(maps, key, block)
        if _leads_into(maps, pair[0], *places[key])
    ]
    if pairs:
        maps.maps["translated"].update_batch(
            b"".join(key for key, _ in pairs), b"".join(value for _, value in pairs), len(pairs)
        )


def _leads_into(maps: MapSet, client: bytes, *blocks: Block) -> bool:
    """Whether a client's short cut, if it has one, is to an element of these blocks: else it has another node now."""
    found = maps.maps["translated"].lookup(client)
    if found is None:
        return True
    element = abi.Shortcut.unpack(found).element
    return any(block.first <= element < block.first + block.ports for block in blocks)


def _shortcuts(maps: MapSet, key: bytes, block: Block) -> Iterator[tuple[bytes, bytes]]:
    """What ``translated`` is to say of a block's live elements: struct client_key, struct shortcut."""
    source, node_port, protocol = key[:16], key[32:34], key[34]
    for element, found in _live(maps, range(block.first, block.first + block.ports)):
        port = block.port + element - block.first
        yield (
            found.client
            + found.listener
            + found.client_port
            + found.listener_port
            + bytes((protocol, 0, 0, 0)),
            abi.Shortcut(source, abi.wire_port(port), node_port, found.label, 0, element).pack(),
        )


def _live(maps: MapSet, elements: range) -> Iterable[tuple[int, abi.Translation]]:
    view = maps.views["translations"]
    for first in range(elements.start, elements.stop, ROW):
        content = view[first * SIZE : min(first + ROW, elements.stop) * SIZE]
        if not any(content):  # as most are
            continue
        for at in range(len(content) // SIZE):
            found = abi.Translation.unpack(content, at * SIZE)
            if found.state & abi.TRANSLATION_LIVE:
                yield first + at, found


def take_what_came_since(
    before: MapSet, old: Mapping[bytes, Block], maps: MapSet, new: Mapping[bytes, Block]
) -> None:
    """Bring what the old programs made after ``take_over`` and before the new ones had the interfaces."""
    for key in old.keys() & new.keys():
        source, target, count = overlap(old[key], new[key])
        there = {element for element, _ in _live(maps, range(target, target + count))}
        for element, found in _live(before, range(source, source + count)):
            place = target + element - source
            if place not in there:
                write(maps, place, found.pack())
                port = new[key].port + place - new[key].first
                lead_to(maps, {key: replace(new[key], first=place, port=port, ports=1)})


def take_over(before: MapSet, old: Mapping[bytes, Block], maps: MapSet, new: Mapping[bytes, Block]) -> None:
    """Bring translations into a set of maps of another size."""
    for key, block in new.items():
        if key in old:
            copy(before, old[key], maps, block)
    lead_to(maps, {key: block for key, block in new.items() if key in old})
