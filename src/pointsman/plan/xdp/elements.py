"""The bytes of map elements, from what was compiled and where it was placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from pointsman.plan.inputs import ANSWER_SECONDS
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.compile import ADDRESS, Compiled, ListenerEntry, NodeEntry
from pointsman.plan.xdp.place import Placed

SECOND = 1_000_000_000


def listener(entry: ListenerEntry, placed: Placed) -> bytes:
    return replace(
        entry.template,
        flow_base=placed.flows.base,
        flow_pairs=placed.flows.buckets // 2,
        flow_ways=placed.flows.ways,
        nodes=placed.nodes,
        slots=placed.slots,
        slot_count=entry.slots.count if entry.slots else 0,
        ids=placed.ids,
        id_bits=entry.ids.bits,
        labels=placed.labels,
        label_bits=entry.labels.bits,
        counts=placed.counts,
        turn=placed.counts,
        node_count=placed.node_count,
        sources=placed.sources,
        source_count=len(entry.sources),
        source_port=entry.source_ports[0],
        source_ports=entry.source_ports[1],
        filter=placed.filter.number if placed.filter is not None else 0,
    ).pack()


def nodes(entry: ListenerEntry, placed: Placed, now: int) -> bytes:
    """All nodes of a listener in a row; ``now`` is the coarse monotonic clock, in ns."""
    budgets = placed.filter.nodes if placed.filter is not None else {}
    return b"".join(
        _node(node, placed.hot[node.label], budgets.get(node.label, 0), now) for node in entry.nodes
    )


def _node(node: NodeEntry, hot: int, budget: int, now: int) -> bytes:
    return abi.Node(
        address=node.reply_key[:ADDRESS],
        port=abi.wire_port(node.endpoint.port),
        label=node.label,
        flags=node.flags,
        hot=hot,
        l4_delta=node.l4_delta if node.outer is None else node.outer.word,
        l3_delta=node.l3_delta,
        budget=budget,
        outer=node.outer.source if node.outer is not None else bytes(16),
        weight=node.weight,
        until=now + node.seconds * SECOND if node.seconds else 0,
    ).pack()


class Elements(Protocol):
    """Arrays that can be written to."""

    def write(self, name: str, first: int, content: bytes) -> None: ...


def write(maps: Elements, entry: ListenerEntry, placed: Placed, now: int, written: set[int]) -> None:
    """Write what a listener refers to; ``written`` are the Maglev tables, by first word, that are there already."""
    maps.write("nodes", placed.nodes, nodes(entry, placed, now))
    maps.write("words", placed.ids, entry.ids.words)
    maps.write("words", placed.labels, entry.labels.words)
    if entry.sources:
        maps.write("words", placed.sources, b"".join(entry.sources))
    if entry.slots is not None and placed.slots not in written:
        maps.write("words", placed.slots, entry.slots.words)
        written.add(placed.slots)


def all_replies(compiled: Compiled, placed: Mapping[bytes, Placed], now: int) -> dict[bytes, bytes]:
    """What nodes send, by struct endpoint_key; a leaving node's only where no other has its endpoint."""
    found: dict[bytes, bytes] = {}
    for leaving in (False, True):
        for key, entry in compiled.items():
            for node in entry.reply_nodes:
                if bool(node.seconds) is leaving and node.reply_key not in found:
                    found[node.reply_key] = _reply(entry, placed[key], node, now)
    return found


def _reply(entry: ListenerEntry, placed: Placed, node: NodeEntry, now: int) -> bytes:
    template = entry.template
    limited = placed.filter is not None and entry.filter is not None and entry.filter.limits_answers
    return abi.Reply(
        salt=template.salt,
        flow_base=placed.flows.base,
        flow_pairs=placed.flows.buckets // 2,
        flow_ways=placed.flows.ways,
        flow_ticks=template.flow_ticks,
        handshake_ticks=template.handshake_ticks,
        hash_seed=template.hash_seed,
        address=entry.key[:ADDRESS],
        port=abi.wire_port(entry.endpoint.port),
        label=node.label,
        protocol=template.protocol,
        flags=entry.reply_flags,
        filter=placed.filter.number if placed.filter is not None and limited else 0,
        hot=placed.hot[node.label],
        counts=placed.counts,
        l4_delta=node.reply_l4_delta,
        l3_delta=node.reply_l3_delta,
        until=now + (node.seconds + ANSWER_SECONDS) * SECOND if node.seconds else 0,
    ).pack()
