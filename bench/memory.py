"""What the maps of the gateway's XDP programs take of the kernel's memory."""

from __future__ import annotations

import socket
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.libbpf import BpfError, attached, maps_of
from bench.rig import Rig, Site
from bench.traffic import BALANCED, LAN, WAN, Kind

if TYPE_CHECKING:
    from rich.console import Console

    from bench.contenders import Contender
    from bench.libbpf import MapUse

NODES = 10
SERVICES = (1, 1_000)
_FLOWS = 60_000
_KINDS = {
    1: "hash", 2: "array", 3: "programs", 5: "per-CPU hash", 6: "per-CPU array", 9: "LRU hash",
    10: "per-CPU LRU hash", 11: "LPM trie", 12: "array of maps", 13: "hash of maps", 14: "devmap",
    25: "devmap hash", 27: "ring buffer",
}  # fmt: skip


def main(contender: Contender, output: Console) -> dict[str, Any]:
    """Set up one service and a thousand, print what the maps take by name, and return the figures."""
    result: dict[str, Any] = {}
    for services in SERVICES:
        kinds = tuple(kind for kind in BALANCED if not contender.unable(Site(4, NODES, kinds=(kind,))))
        if not kinds:
            raise BpfError(f"{contender.name}: {contender.unable(Site(4, NODES))}")
        kind = Kind.UDP if Kind.UDP in kinds else kinds[0]
        site = Site(4, NODES, kinds=(kind,), services=services, flows=_FLOWS)
        maps = _maps(contender, site)
        total = sum(one.memory for one in maps) / 2**20
        output.print(
            f"{contender.name}, services: {services:,} ({kind.protocol}, {NODES} nodes, room for {_FLOWS:,} flows "
            f"in the measured one), maps: {len(maps)}, {total:.1f} MiB",
            highlight=False,
        )
        output.print(_table(maps))
        result[str(services)] = [asdict(one) for one in maps]
    return {"memory": result}


def _maps(contender: Contender, site: Site) -> list[MapUse]:
    with Rig(site) as rig:
        contender.setup(rig.gateway, site)
        try:
            with rig.gateway.entered():
                programs = [attached(socket.if_nametoindex(name)) for name in (WAN, LAN)]
                if not any(programs):
                    raise BpfError(f"{contender.name} attached no XDP program")
                maps: dict[int, MapUse] = {}
                for number in filter(None, programs):
                    maps |= maps_of(number)
        finally:
            contender.teardown(rig.gateway)
    return list(maps.values())


def _table(maps: list[MapUse]) -> Table:
    table = Table()
    table.add_column("map")
    table.add_column("kind")
    for heading in ("maps", "entries at most", "KiB"):
        table.add_column(heading, justify="right")
    groups: defaultdict[tuple[str, int], list[MapUse]] = defaultdict(list)
    for one in maps:
        groups[one.name, one.kind].append(one)
    for (name, kind), group in sorted(groups.items(), key=lambda pair: -sum(one.memory for one in pair[1])):
        entries = sum(one.max_entries for one in group)
        size = sum(one.memory for one in group) / 1024
        table.add_row(name, _KINDS.get(kind, str(kind)), str(len(group)), f"{entries:,}", f"{size:,.1f}")
    return table
