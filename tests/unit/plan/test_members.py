from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.xdp.sample import inputs, text

from pointsman.model import Family, NodeState, NodeStates
from pointsman.plan.describe import describe
from pointsman.plan.explain import explain
from pointsman.plan.host import HostFacts, HostPlan
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.members import members
from pointsman.plan.nftables import compile_ruleset
from pointsman.plan.nftables.direct import compile_direct
from pointsman.plan.nftables.pick import TurnTable, pick_of
from pointsman.plan.xdp.compile import ListenerEntry, compile_listeners

UP = NodeState.UP
SCHEDULERS = ("maglev", "random", "round-robin")


def with_shares(made: PlaneInputs, shares: dict[str, int]) -> PlaneInputs:
    states = replace(made.states, shares={("s", name): share for name, share in shares.items()})
    return replace(made, states=states)


def entry(made: PlaneInputs) -> ListenerEntry:
    return next(iter(compile_listeners(made).values()))


def positions(own: ListenerEntry) -> list[int]:
    assert own.slots
    return list(struct.unpack_from(f"<{own.slots.count}H", own.slots.words))


def labels_of_slots(made: PlaneInputs) -> list[int]:
    """What nftables' table has in its slots."""
    service = made.gateway.services[0]
    own = made.of(service)
    pick = pick_of(service, own.states, own.shares, own.labels, own.hash_seed)
    assert pick is not None
    if isinstance(pick.table, TurnTable):
        return list(pick.table.labels)
    return [int(each.split(" : ")[1]) for each in pick.table.as_map().content.split(", ")]


def test_weights_are_the_nodes_own_where_every_share_is_full() -> None:
    service = inputs(text(((1, 2), (2, 4)))).gateway.services[0]
    own = [("n1", 2), ("n2", 4)]
    assert members(service, (UP, UP)) == own
    assert members(service, (UP, UP), (100, 100)) == own


def test_shares_scale_the_weights() -> None:
    service = inputs(text(((1, 2), (2, 4)))).gateway.services[0]
    assert members(service, (UP, UP), (10, 100)) == [("n1", 20), ("n2", 400)]


def test_nodes_that_all_have_the_same_share_have_nobody_to_be_protected_with() -> None:
    service = inputs(text(((1, 2), (2, 4), (3, 1)))).gateway.services[0]
    assert members(service, (UP, UP, NodeState.DOWN), (30, 30, 100)) == [("n1", 2), ("n2", 4)]
    assert members(service, (UP, NodeState.DOWN, NodeState.DRAINING), (10, 100, 100)) == [("n1", 2)]


def test_full_shares_change_no_byte_of_either_plane() -> None:
    made = inputs(text())
    full = with_shares(made, {"n1": 100})
    assert full.states == made.states
    assert compile_ruleset(full) == compile_ruleset(made)
    assert compile_listeners(full) == compile_listeners(made)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_tenth_of_the_weight_is_a_tenth_of_the_slots_on_both_planes(scheduler: str) -> None:
    made = inputs(text(extra=f'scheduler = "{scheduler}"'))
    slow = with_shares(made, {"n2": 10})
    counts = Counter(positions(entry(slow)))
    assert counts[1] / counts[0] == pytest.approx(0.1, abs=0.02)
    assert counts[2] == pytest.approx(counts[0], abs=1)
    full = Counter(positions(entry(made)))
    assert full[1] == pytest.approx(full[0], abs=1)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(shares=st.dictionaries(st.sampled_from(("n1", "n2", "n3")), st.integers(1, 100)))
def test_both_planes_have_the_same_slots_for_any_shares(scheduler: str, shares: dict[str, int]) -> None:
    made = with_shares(inputs(text(((1, 1), (2, 3), (3, 2)), extra=f'scheduler = "{scheduler}"')), shares)
    own = entry(made)
    assert [own.nodes[at].label for at in positions(own)] == labels_of_slots(made)


def test_least_connections_weighs_by_the_share() -> None:
    made = inputs(text(((1, 1), (2, 3)), protocol="tcp", extra='scheduler = "least-connections"'))
    assert [node.weight for node in entry(made).nodes] == [1, 3]
    slow = entry(with_shares(made, {"n1": 10}))
    assert [node.weight for node in slow.nodes] == [10, 300]
    assert sorted(positions(slow)) == [0, 1]


def test_shares_move_nothing_but_slots() -> None:
    """Flags, labels, ids and endpoints stand, and so do the rules of nftables but for the name of the table."""
    made = inputs(text())
    slow = with_shares(made, {"n2": 10})
    before, after = entry(made), entry(slow)
    same = replace(after, slots=before.slots, nodes=before.nodes)
    assert same == before
    assert [replace(node, weight=1) for node in after.nodes] == list(before.nodes)
    old, new = compile_ruleset(made), compile_ruleset(slow)
    changed = {name for name in old.chains if old.chains[name] != new.chains[name]}
    assert {name.rpartition("/")[2] for name in changed} == {"new"}


@pytest.mark.parametrize("names", [("n1",), ("n1", "n3")])
def test_a_step_moves_to_the_node_that_starts_and_hardly_anything_else(names: tuple[str, ...]) -> None:
    made = inputs(text())
    before = positions(entry(with_shares(made, dict.fromkeys(names, 10))))
    for share in range(20, 101, 10):
        after = positions(entry(with_shares(made, dict.fromkeys(names, share))))
        starting = {int(name[1:]) - 1 for name in names}
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        elsewhere = [pair for pair in moved if pair[1] not in starting]
        assert moved
        assert len(elsewhere) <= 0.02 * len(before)
        before = after


def test_explain_goes_by_the_shares() -> None:
    made = inputs(text(extra='scheduler = "round-robin"'))
    slow = with_shares(made, {"n2": 10})
    listener = made.gateway.services[0].listeners[0].endpoint
    found = explain(slow.gateway, slow.states, listener, listener, b"")
    assert "n1 (100 of 210), n2 (10 of 210), n3 (100 of 210)" in found.steps[-1]


def test_a_changed_share_is_told() -> None:
    made = inputs(text())
    slow, nothing = with_shares(made, {"n2": 10}), HostFacts({}, {}, {})
    lines = describe(made, slow, HostPlan((), ()), facts=nothing, carried=())
    assert lines == ["service s, node n2: takes 10 % of its weight"]


def test_shares_are_percentages_and_kept_in_order() -> None:
    states = NodeStates(shares={("s", "n2"): 20, ("s", "n1"): 10, ("s", "n3"): 100})
    assert list(states.shares.items()) == [(("s", "n1"), 10), (("s", "n2"), 20)]
    assert states.with_share("s", "n1", 100).shares == {("s", "n2"): 20}
    assert states.with_state("s", "n1", NodeState.DOWN).share("s", "n1") == 10
    for wrong in (0, 101, -1):
        with pytest.raises(ValueError, match=r"the share of s/n1 is -?\d+ %: 1\.\.100"):
            NodeStates(shares={("s", "n1"): wrong})


@pytest.mark.parametrize("family", list(Family))
def test_services_passed_by_follow_the_shares_too(family: Family) -> None:
    content = "\n".join(
        [
            '[gateway]\nname = "edge"\nhash_seed = 7\n[[service]]\nname = "s"\nprotocol = "udp"\nforward = "dsr"',
            'listen = ["192.0.2.10:53", "[2001:db8::10]:53"]',
            *(
                f'[[service.node]]\nname = "n{number}"\naddress = ["10.0.0.{number}", "fd00::{number}"]'
                for number in (11, 12)
            ),
        ]
    )
    made = inputs(content)
    slow = with_shares(made, {"n11": 10})
    before, after = compile_direct(made, family), compile_direct(slow, family)
    assert before is not None
    assert after is not None
    (old,), (new,) = (
        [each for name, each in ruleset.sets.items() if name.startswith("maglev/")]
        for ruleset in (before, after)
    )
    label = made.labels.of(made.gateway.services[0].nodes[0])
    counts = [
        Counter(int(each.split(" : ")[1]) for each in own.content.split(", "))[label] for own in (old, new)
    ]
    assert counts == [505, 92]
