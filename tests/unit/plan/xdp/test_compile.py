from __future__ import annotations

import struct
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.xdp.sample import inputs, text

from pointsman.model import Endpoint, NodeState
from pointsman.plan import jhash
from pointsman.plan.explain import explain
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.abi import ListenerFlag, NodeFlag, ReplyFlag
from pointsman.plan.xdp.compile import ListenerEntry, compile_listeners, markers, ticks
from pointsman.plan.xdp.describe import describe_change
from pointsman.plan.xdp.words import unpack_words
from pointsman.wire.dtls import CID_OFFSET

BOTH = NodeFlag.TAKES_NEW | NodeFlag.TAKES_NAMED | NodeFlag.SCHEDULED


def entry(content: str, states: dict[str, NodeState] | None = None, family: int = 4) -> ListenerEntry:
    compiled = compile_listeners(inputs(content, states))
    return next(each for each in compiled.values() if each.endpoint.family == family)


def slots(own: ListenerEntry) -> list[int]:
    assert own.slots
    return list(struct.unpack_from(f"<{own.slots.count}H", own.slots.words))


def table(words: bytes) -> dict[int, int]:
    return {word >> 32: (word & 0xFFFFFFFF) - 1 for word in unpack_words(words) if word}


def test_slots_follow_weights() -> None:
    shares = Counter(slots(entry(text(((1, 1), (2, 3))))))
    assert 2.8 < shares[1] / shares[0] < 3.2


def test_nodes_without_weight_take_no_new_flows_but_what_names_them() -> None:
    own = entry(text(((1, 1), (2, 0))))
    assert set(slots(own)) == {0}
    assert table(own.ids.words) == {1: 0, 2: 1}


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        (NodeState.UP, BOTH),
        (NodeState.DRAINING, NodeFlag.TAKES_NAMED),
        (NodeState.DOWN, NodeFlag(0)),
        (NodeState.DISABLED, NodeFlag(0)),
    ],
)
def test_states_say_what_a_node_takes(state: NodeState, flags: NodeFlag) -> None:
    own = entry(text(), {"n2": state})
    assert [node.flags for node in own.nodes] == [BOTH, flags, BOTH]
    assert (1 in slots(own)) is (state is NodeState.UP)
    assert table(own.ids.words) == {1: 0, 2: 1, 3: 2}


def test_without_takers_there_are_no_slots() -> None:
    assert entry(text(), dict.fromkeys(("n1", "n2", "n3"), NodeState.DOWN)).slots is None


def test_a_leaving_node_is_followed_but_neither_named_nor_picked() -> None:
    before = inputs(text())
    after = inputs(text(((1, 1), (2, 1))), before=before, leaving={"n3": 30})
    for own in compile_listeners(after).values():
        gone = own.nodes[-1]
        assert (gone.name, gone.seconds, gone.flags) == ("n3", 30, NodeFlag.TAKES_NAMED | NodeFlag.LEAVING)
        assert table(own.labels.words)[gone.label] == 2
        assert 2 not in table(own.ids.words).values()
        assert 2 not in slots(own)


def test_a_node_that_came_back_is_not_leaving() -> None:
    before = inputs(text())
    own = compile_listeners(inputs(text(), before=before, leaving={"n3": 30}))
    assert all(not node.seconds for each in own.values() for node in each.nodes)


def test_labels_lead_to_positions() -> None:
    own = entry(text())
    assert table(own.labels.words) == {node.label: at for at, node in enumerate(own.nodes)}


@given(st.integers(0, 2000), st.integers(1, 32), st.binary(min_size=263, max_size=263))
def test_the_place_of_an_id_reads_the_bits_that_are_meant(offset: int, bits: int, cid: bytes) -> None:
    offset %= 8 * 255 - bits + 1
    where = f"connection_id = {{ offset = {offset}, bits = {bits}, length = 255 }}"
    content = text(((1, 1),)).replace("connection_id = { offset = 4, bits = 12, length = 6 }", where)
    own = entry(content).template
    assert (own.id_start >= CID_OFFSET, 1 <= own.id_span <= 5, own.id_shift < 8) == (True, True, True)
    read = (
        int.from_bytes(cid[own.id_start - CID_OFFSET :][: own.id_span], "big") >> own.id_shift & own.id_mask
    )
    assert read == int.from_bytes(cid, "big") >> (8 * len(cid) - offset - bits) & ((1 << bits) - 1)


def test_policies_and_protocol_are_flags() -> None:
    plain = entry(text(protocol="udp"))
    assert (plain.template.flags, plain.template.protocol) == (ListenerFlag.VALID, abi.Kind.UDP)
    assert plain.reply_flags == ReplyFlag.VALID
    own = entry(text(extra='cid_unknown = "balance"\ncid_node_down = "balance"'))
    assert (
        own.template.flags
        == ListenerFlag.VALID
        | ListenerFlag.BY_CID
        | ListenerFlag.UNKNOWN_BALANCED
        | ListenerFlag.DOWN_BALANCED
    )
    assert own.reply_flags == ReplyFlag.VALID | ReplyFlag.BY_CID


def test_listeners_have_flows_of_their_own() -> None:
    compiled = compile_listeners(inputs(text(listeners=(5684, 5685, 5686))))
    assert len({own.template.salt for own in compiled.values()}) == 6


def test_an_unchanged_service_is_the_same_object() -> None:
    one = inputs(text())
    first, again = compile_listeners(one), compile_listeners(one)
    assert all(first[key] is again[key] for key in first)


def test_marks_are_addresses_without_ports() -> None:
    vips, nodes = markers(compile_listeners(inputs(text(listeners=(5684, 5685)))))
    assert (len(vips), len(nodes)) == (2, 6)
    assert all(len(key) == 20 and not any(key[16:]) for key in vips | nodes)


@given(st.integers(0, 10**7))
def test_ticks_are_never_shorter_than_the_seconds(seconds: int) -> None:
    assert (
        seconds * 10**9
        < ticks(seconds) << abi.FLOW_TICK_SHIFT
        <= seconds * 10**9 + (2 << abi.FLOW_TICK_SHIFT)
    )


@given(st.sampled_from([4, 6]), st.integers(0, 2**32 - 1), st.integers(0, 65535))
def test_the_slot_of_a_client_is_the_node_that_explain_tells(family: int, host: int, port: int) -> None:
    given = inputs(text(((1, 1), (2, 2), (3, 1))))
    own = next(each for each in compile_listeners(given).values() if each.endpoint.family == family)
    client = Endpoint(IPv4Address(host) if family == 4 else IPv6Address(host << 64 | host), port)
    assert own.slots
    slot = jhash.client_slot(client.address, port, own.slots.count, given.gateway.hash_seed)
    told = explain(given.gateway, given.states, client, own.endpoint, b"")
    assert own.nodes[slots(own)[slot]].name == told.node


def test_a_change_is_told_by_listener() -> None:
    before = compile_listeners(inputs(text()))
    after = compile_listeners(inputs(text(((1, 1), (2, 1)), listeners=(5684, 5685))))
    told = describe_change(before, after)
    assert [line.split()[0] for line in told.splitlines()].count("replace") == 2
    assert [line.split()[0] for line in told.splitlines()].count("add") == 2
    assert "remove listener 192.0.2.10:5685 of s" in describe_change(after, before)
    assert describe_change(before, before) == ""
