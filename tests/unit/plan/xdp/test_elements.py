from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.xdp.sample import inputs, text
from tests.unit.plan.xdp.test_place import go, roomy

from pointsman.plan.inputs import ANSWER_SECONDS
from pointsman.plan.xdp import abi, elements
from pointsman.plan.xdp.compile import Compiled, ListenerEntry, compile_listeners
from pointsman.plan.xdp.place import Layout
from pointsman.plan.xdp.words import unpack_words

SECOND = 1_000_000_000


def folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """Over words as they lie in a little-endian machine's memory, as the programs have them."""
    return 0xFFFF - folded(sum(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)))


def updated(old: int, delta: int) -> int:
    """The twin of checksum_update() in bpf/lib/checksum.h."""
    return 0xFFFF - folded((0xFFFF - old) + delta)


def same(one: int, other: int) -> bool:
    return one % 0xFFFF == other % 0xFFFF


def placed(compiled: Compiled) -> Layout:
    layout = roomy(compiled)
    go(layout, {}, compiled)
    return layout


def entry_for(vip: str, port: int, node: str, node_port: int) -> ListenerEntry:
    def joined(host: str, own: int) -> str:
        return f"[{host}]:{own}" if ":" in host else f"{host}:{own}"

    content = f"""
[gateway]
name = "edge"
[[service]]
name = "s"
protocol = "udp"
listen = ["{joined(vip, port)}"]
[[service.node]]
name = "n"
address = "{joined(node, node_port)}"
"""
    return next(iter(compile_listeners(inputs(content)).values()))


HOSTS4 = st.tuples(
    st.integers(0x0B000000, 0x7E000000).map(IPv4Address), st.integers(0x80000000, 0xDF000000).map(IPv4Address)
)
HOSTS6 = st.tuples(
    st.integers(0x20010DB8 << 96, (0x20010DB9 << 96) - 1).map(IPv6Address),
    st.integers(0xFD << 120, (0xFE << 120) - 1).map(IPv6Address),
)
PORTS = st.integers(1, 65535)


@given(st.one_of(HOSTS4, HOSTS6), PORTS, PORTS, st.binary(min_size=40, max_size=40))
def test_a_delta_makes_the_checksum_that_would_be_computed_anew(
    hosts: tuple[IPv4Address | IPv6Address, ...], port: int, node_port: int, rest: bytes
) -> None:
    vip, node = hosts
    own = entry_for(str(vip), port, str(node), node_port).nodes[0]
    listener, target = vip.packed + port.to_bytes(2, "big"), node.packed + node_port.to_bytes(2, "big")
    assert same(updated(checksum(listener + rest), own.l4_delta), checksum(target + rest))
    assert same(updated(checksum(target + rest), own.reply_l4_delta), checksum(listener + rest))
    assert same(updated(checksum(vip.packed + rest), own.l3_delta), checksum(node.packed + rest))
    assert same(updated(checksum(node.packed + rest), own.reply_l3_delta), checksum(vip.packed + rest))
    assert max(own.l4_delta, own.reply_l4_delta) < 1 << 32


def test_a_listener_says_where_its_parts_are() -> None:
    compiled = compile_listeners(inputs(text(extra="flow_table_size = 100")))
    layout = placed(compiled)
    for key, entry in compiled.items():
        where, own = layout.placed[key], abi.Listener.unpack(elements.listener(entry, layout.placed[key]))
        assert (own.nodes, own.node_count, own.counts) == (where.nodes, 3, where.counts)
        assert (own.ids, 1 << own.id_bits) == (where.ids, where.ids_length)
        assert (own.labels, 1 << own.label_bits) == (where.labels, where.labels_length)
        assert (own.slots, own.slot_count) == (where.slots, entry.slots.count if entry.slots else 0)
        assert (own.flow_base, own.flow_ways) == (where.flows.base, where.flows.ways)


def test_nodes_lie_in_a_row_with_a_deadline_for_those_that_leave() -> None:
    before = inputs(text())
    compiled = compile_listeners(inputs(text(((1, 1), (2, 1))), before=before, leaving={"n3": 30}))
    layout = placed(compiled)
    for key, entry in compiled.items():
        content = elements.nodes(entry, layout.placed[key], 5 * SECOND)
        size = abi.Node.FORMAT.size
        rows = [abi.Node.unpack(content, at) for at in range(0, len(content), size)]
        assert [row.until for row in rows] == [0, 0, 35 * SECOND]
        assert [row.label for row in rows] == [node.label for node in entry.nodes]
        assert [row.address for row in rows] == [
            abi.wire_address(node.endpoint.address) for node in entry.nodes
        ]
        assert [row.hot for row in rows] == [layout.placed[key].hot[node.label] for node in entry.nodes]


def test_answers_of_a_leaving_node_are_translated_a_little_longer() -> None:
    before = inputs(text())
    compiled = compile_listeners(inputs(text(((1, 1), (2, 1))), before=before, leaving={"n3": 30}))
    layout = placed(compiled)
    replies = elements.all_replies(compiled, layout.placed, 0)
    assert len(replies) == 6
    ends = {abi.Reply.unpack(content).until for content in replies.values()}
    assert ends == {0, (30 + ANSWER_SECONDS) * SECOND}
    for key, entry in compiled.items():
        for node in entry.nodes:
            own = abi.Reply.unpack(replies[node.reply_key])
            assert (own.address, own.port) == (abi.wire_address(entry.endpoint.address), abi.wire_port(5684))
            assert (own.label, own.hot) == (node.label, layout.placed[key].hot[node.label])


class Written:
    """Arrays as bytes that were written, by name and first element."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, bytes]] = []

    def write(self, name: str, first: int, content: bytes) -> None:
        self.rows.append((name, first, content))


def test_a_shared_maglev_table_is_written_once() -> None:
    compiled = compile_listeners(inputs(text(listeners=(5684, 5685))))
    layout, maps, done = placed(compiled), Written(), set[int]()
    for key, entry in compiled.items():
        elements.write(maps, entry, layout.placed[key], 0, done)
    large = [row for row in maps.rows if row[0] == "words" and len(unpack_words(row[2])) > 200]
    assert len(large) == 1
    assert len(maps.rows) == 4 * 3 + 1
