"""Hand out the 16-bit labels by which the data plane tells nodes apart.

A remembered flow holds its node's label, so a label must go on meaning the same node for as long as flows may
name it: it survives changes of the configuration, and one that fell free is not given out again before
every flow that could hold it is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pointsman.model import Address, Node

FIRST_LABEL = 1
LAST_LABEL = 0xFFFF

NodeKey = tuple[str, tuple[Address, ...]]


class OutOfLabelsError(Exception):
    """More distinct nodes than labels; the message says how many there are."""


def node_key(node: Node) -> NodeKey:
    """What makes a node the same one for remembered flows: its name and its addresses."""
    return node.name, tuple(own.address for own in node.addresses)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels in use, and labels that wait: ``resting`` maps each to the time (seconds) it may be reused."""

    by_node: Mapping[NodeKey, int] = field(default_factory=dict)
    resting: Mapping[int, float] = field(default_factory=dict)

    def of(self, node: Node) -> int:
        return self.by_node[node_key(node)]


def allocate(nodes: Iterable[Node], previous: Labels, *, now: float, rest: float) -> Labels:
    """Give every distinct node a label, keeping those of ``previous``; a freed one rests ``rest`` seconds.

    Where nothing changes it is ``previous`` itself that is returned.

    Raises OutOfLabelsError if there are not enough.
    """
    wanted = dict.fromkeys(node_key(node) for node in nodes)
    kept = {key: previous.by_node[key] for key in wanted if key in previous.by_node}
    resting = {label: until for label, until in previous.resting.items() if until > now}
    resting |= {label: now + rest for key, label in previous.by_node.items() if key not in kept}
    taken = set(kept.values()) | resting.keys()
    free = (label for label in range(FIRST_LABEL, LAST_LABEL + 1) if label not in taken)
    if kept.keys() == wanted.keys() == previous.by_node.keys() and resting == previous.resting:
        return previous
    try:
        by_node = {key: kept[key] if key in kept else next(free) for key in wanted}
    except StopIteration:
        raise OutOfLabelsError(
            f"{len(wanted)} distinct nodes and {len(resting)} lately removed ones; {LAST_LABEL} labels in all"
        ) from None
    return Labels(by_node, resting)
