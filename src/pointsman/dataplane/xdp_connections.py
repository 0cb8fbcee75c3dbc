"""The counts of nodes' flows, which the programs keep where a scheduler goes by them."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import filterfalse

from pointsman.dataplane.xdp_maps import MapSet
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import Compiled

ROW = 1 << 15
"""Bytes of the memory of flows that are looked at together."""


def are_wanted(compiled: Compiled) -> bool:
    return any(
        entry.template.scheduler == abi.SchedulerNumber.LEAST_CONNECTIONS for entry in compiled.values()
    )


def set_counting(maps: MapSet, *, wanted: bool, known: bool = False) -> None:
    """Have the programs count flows or not; where they begin to, those that are remembered are counted first.

    ``known``: the counts in the maps are right already.
    """
    flag, flags = abi.ConfigFlag.COUNT_FLOWS, maps.config.flags
    if wanted and not flags & flag:
        # The flag first. What packets change while it is counted may leave a count a flow or two off.
        maps.write_word(abi.Config.FLAGS, flags | flag)
        if not known:
            _count(maps)
    elif not wanted and flags & flag:
        maps.write_word(abi.Config.FLAGS, flags & ~flag)


def _count(maps: MapSet) -> None:
    found: Counter[int] = Counter()
    view = maps.views["flows"]
    for start in range(0, len(view), ROW):
        content = view[start : start + ROW]
        if any(content):
            entries = array("Q", content)
            found.update(entry >> 24 & 0xFFFF for entry in filterfalse(_is_none, entries))
    counts = array("q", bytes(8 * (1 << 16)))
    for label, flows in found.items():
        counts[label] = flows
    maps.write("connections", 0, counts.tobytes())


def _is_none(entry: int) -> bool:
    """Mirrors flow_counts() of bpf/lib/flow.h, the other way round."""
    return not entry or entry >> 22 & 3 >= 2
