from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.model import AllDown, Gateway, Node, NodeAddress, NodeState, NodeStates, Protocol, Service
from pointsman.plan.effective import Key, Orders, comebacks, effective, next_step, resumed, share_at

UP, DRAINING, DOWN, DISABLED = NodeState
KEEP = AllDown.KEEP
NAMES = ("n1", "n2", "n3")


def service(
    name: str = "s", *, slow_start: int = 0, all_down: AllDown = AllDown.DROP, backup: bool = False
) -> Service:
    nodes = tuple(
        Node(each, (NodeAddress(ip_address(f"10.0.0.{number}")),), backup=backup and each == "n3")
        for number, each in enumerate(NAMES, 11)
    )
    return Service(name, Protocol.UDP, (), nodes, slow_start=slow_start, all_down=all_down)


def gateway(*services: Service) -> Gateway:
    return Gateway("edge", services or (service(),), 1)


def keys(**values: object) -> dict[Key, object]:
    return {("s", name): value for name, value in values.items()}


def states(**exceptions: NodeState) -> NodeStates:
    return NodeStates({("s", name): state for name, state in exceptions.items()})


def verdicts(**healthy: bool) -> dict[Key, bool]:
    return {("s", name): each for name, each in healthy.items()}


def orders(**nodes: NodeState) -> Orders:
    return Orders({("s", name): state for name, state in nodes.items()})


def of(found: NodeStates) -> list[NodeState]:
    return [found.of("s", name) for name in NAMES]


def combined(
    gateway_: Gateway, given: Orders | None = None, healthy: dict[Key, bool] | None = None, **more: NodeState
) -> list[NodeState]:
    return of(effective(gateway_, given or Orders(), healthy or {}, {}, 0, states(**more)))


def test_without_orders_and_verdicts_every_node_is_up() -> None:
    assert combined(gateway()) == [UP, UP, UP]


def test_orders_and_verdicts_are_combined() -> None:
    found = combined(gateway(), orders(n1=DRAINING, n2=DISABLED), verdicts(n1=True, n2=False, n3=False))
    assert found == [DRAINING, DISABLED, DOWN]


def test_draining_node_that_is_down_is_down() -> None:
    assert combined(gateway(), orders(n1=DRAINING), verdicts(n1=False)) == [DOWN, UP, UP]


def test_service_that_is_disabled_has_all_nodes_disabled_and_another_has_none() -> None:
    found = effective(
        gateway(service(), service("other")),
        Orders({("s", "n1"): DRAINING}, frozenset({"s"})),
        verdicts(n2=False),
        {},
        0,
        NodeStates(),
    )
    assert of(found) == [DISABLED, DISABLED, DISABLED]
    assert {name for name, _ in found.exceptions} == {"s"}


def test_node_without_a_verdict_is_what_it_was() -> None:
    assert combined(gateway(), n1=DOWN, n2=DRAINING) == [DOWN, UP, UP]
    assert combined(gateway(), healthy=verdicts(n1=True), n1=DOWN) == [UP, UP, UP]


ALL_DOWN = verdicts(n1=False, n2=False, n3=False)


def test_when_every_node_is_down_all_are_unless_the_service_keeps_the_last() -> None:
    assert combined(gateway(), healthy=ALL_DOWN) == [DOWN, DOWN, DOWN]
    keeps = gateway(service(all_down=KEEP))
    assert combined(keeps, healthy=ALL_DOWN, n1=DOWN) == [DOWN, UP, UP]


def test_kept_nodes_stay_kept_until_one_is_found_up() -> None:
    keeps = gateway(service(all_down=KEEP))
    last = NodeStates()
    for healthy, expected in (
        (verdicts(n1=False), [DOWN, UP, UP]),
        (verdicts(n1=False, n2=False), [DOWN, DOWN, UP]),
        (ALL_DOWN, [DOWN, DOWN, UP]),
        (ALL_DOWN, [DOWN, DOWN, UP]),
        (ALL_DOWN | verdicts(n1=True), [UP, DOWN, DOWN]),
    ):
        last = effective(keeps, Orders(), healthy, {}, 0, last)
        assert of(last) == expected


def test_one_node_that_is_draining_and_found_up_shows_that_the_checks_work() -> None:
    keeps = gateway(service(all_down=KEEP))
    assert combined(keeps, orders(n1=DRAINING), ALL_DOWN | verdicts(n1=True)) == [DRAINING, DOWN, DOWN]


def test_kept_node_that_is_draining_goes_on_draining_and_a_disabled_one_is_not_kept() -> None:
    keeps = gateway(service(all_down=KEEP))
    assert combined(keeps, orders(n1=DRAINING, n2=DISABLED), ALL_DOWN) == [DRAINING, DISABLED, UP]


def test_where_none_of_those_left_was_up_last_all_of_them_are_kept() -> None:
    keeps = gateway(service(all_down=KEEP))
    assert combined(keeps, orders(n1=DISABLED), ALL_DOWN, n2=DOWN, n3=DOWN) == [DISABLED, UP, UP]


# slow start


def shares(gateway_: Gateway, started: dict[Key, float], now: float, **down: NodeState) -> dict[str, int]:
    given = Orders({("s", name): state for name, state in down.items()})
    found = effective(gateway_, given, {}, started, now, NodeStates())
    return {name: share for (_, name), share in found.shares.items()}


SLOW = gateway(service(slow_start=90))


def test_share_grows_in_ten_steps_of_ten_percent() -> None:
    seen = [shares(SLOW, {("s", "n1"): 1000.0}, 1000.0 + time) for time in (0, 9, 10, 25, 79.9, 80, 89.9, 90)]
    assert [each.get("n1", 100) for each in seen] == [10, 10, 20, 30, 80, 90, 90, 100]


def test_node_that_was_up_from_the_beginning_has_all_of_its_share() -> None:
    assert shares(SLOW, {}, 0) == {}


def test_node_that_is_the_only_one_has_all_of_its_share() -> None:
    assert shares(SLOW, {("s", "n1"): 0.0}, 1, n2=DISABLED, n3=DRAINING) == {}


def test_nodes_that_came_back_together_have_nobody_to_be_protected_with() -> None:
    together: dict[Key, float] = {("s", name): 0.0 for name in NAMES}
    assert shares(SLOW, together, 1) == {}
    assert shares(SLOW, together | {("s", "n1"): 20.0}, 21) == {"n1": 10, "n2": 30, "n3": 30}


def test_backup_node_takes_no_share_from_others() -> None:
    backed = gateway(service(slow_start=90, backup=True))
    assert shares(backed, {("s", "n3"): 0.0}, 1) == {}
    assert shares(backed, {("s", "n1"): 0.0}, 1, n2=DISABLED) == {}


def test_comebacks_are_of_nodes_that_are_up_again() -> None:
    before = states(n1=DOWN, n2=DRAINING, n3=DISABLED)
    assert comebacks(SLOW, before, states(n2=DRAINING), {}, 5) == keys(n1=5, n3=5)
    assert comebacks(SLOW, NodeStates(), NodeStates(), {}, 5) == {}
    under_way: dict[Key, float] = {("s", "n1"): 0.0, ("s", "n2"): -90.0, ("gone", "n1"): 0.0}
    assert comebacks(SLOW, NodeStates(), NodeStates(), under_way, 5) == {("s", "n1"): 0.0}
    assert comebacks(SLOW, NodeStates(), states(n1=DOWN), under_way, 5) == {}
    assert comebacks(gateway(), before, NodeStates(), under_way, 5) == {}, (
        "without slow_start nobody starts slowly"
    )


def test_slow_start_goes_on_where_nobody_remembers_when_it_began() -> None:
    for time in range(0, 91, 5):
        before = effective(SLOW, Orders(), {}, {("s", "n1"): 0.0}, time, NodeStates())
        found = resumed(SLOW, before, 1000.0)
        after = effective(SLOW, Orders(), {}, found, 1000.0, before)
        assert after == before
        assert found == ({} if time == 90 else {("s", "n1"): pytest.approx(1000.0 - time, abs=5.01)})
    assert resumed(gateway(), NodeStates(shares={("s", "n1"): 10}), 5) == {}


def test_next_step_is_when_the_shares_change_next() -> None:
    started: dict[Key, float] = {("s", "n1"): 0.0}
    times = []
    now: float | None = 0.0
    while now is not None:
        found = effective(SLOW, Orders(), {}, started, now, NodeStates())
        times.append((now, found.share("s", "n1")))
        now = next_step(SLOW, found, started, now)
    assert times == [(10.0 * step, 10 + 10 * step) for step in range(10)]


def test_next_step_is_never_where_nobody_starts_or_nobody_would_notice() -> None:
    alone = states(n2=DOWN, n3=DOWN)
    assert next_step(SLOW, NodeStates(), {}, 0) is None
    assert next_step(SLOW, alone, {("s", "n1"): 0.0}, 1) is None
    assert next_step(SLOW, NodeStates(), {("s", "n1"): 0.0}, 90) is None


# properties

KEYS = st.tuples(st.sampled_from(("s", "t")), st.sampled_from(NAMES))
ORDERS = st.builds(
    Orders,
    st.dictionaries(KEYS, st.sampled_from((DRAINING, DISABLED))),
    st.frozensets(st.sampled_from(("s", "t"))),
)
HEALTHY = st.dictionaries(KEYS, st.booleans())
LAST = st.builds(NodeStates, st.dictionaries(KEYS, st.sampled_from(NodeState)))
TIMES = st.floats(-1e6, 1e6)
STARTED = st.dictionaries(KEYS, TIMES)
GATEWAYS = st.builds(
    lambda slow, keep, backup: gateway(
        service("s", slow_start=slow, all_down=AllDown(keep), backup=backup),
        service("t", slow_start=3, all_down=AllDown.DROP),
    ),
    st.integers(0, 86400),
    st.sampled_from(("drop", "keep")),
    st.booleans(),
)


@given(GATEWAYS, ORDERS, HEALTHY, STARTED, TIMES, LAST)
def test_states_and_shares_keep_what_they_promise(
    made: Gateway,
    given_: Orders,
    healthy: dict[Key, bool],
    started: dict[Key, float],
    now: float,
    last: NodeStates,
) -> None:
    found = effective(made, given_, healthy, started, now, last)
    assert found == effective(made, given_, healthy, started, now, last)
    assert effective(made, given_, healthy, started, now, found) == found, "it settles at once"
    for own in made.services:
        left = []
        for node in own.nodes:
            key = own.name, node.name
            state, order = found.of(*key), given_.of(*key)
            assert (state is DISABLED) == (order is DISABLED), "disabled wins, and only an order disables"
            if healthy.get(key):
                assert state is order
            if state is not DOWN:
                assert state is order, "what is not down is as ordered"
            if key in found.shares:
                assert state is UP
                assert key in started
            if order is not DISABLED:
                left.append(state)
        if own.all_down is KEEP and left:
            assert set(left) != {DOWN}, "checks alone take no service down that keeps the last"
        if own.all_down is AllDown.DROP:
            for node in own.nodes:
                if healthy.get((own.name, node.name)) is False:
                    assert not found.of(own.name, node.name).takes_named_packets


@given(GATEWAYS, ORDERS, HEALTHY, STARTED, TIMES, LAST)
def test_nothing_changes_before_the_next_step_and_something_does_then(
    made: Gateway,
    given_: Orders,
    healthy: dict[Key, bool],
    started: dict[Key, float],
    now: float,
    last: NodeStates,
) -> None:
    def at(time: float) -> NodeStates:
        return effective(made, given_, healthy, started, time, last)

    found = at(now)
    step = next_step(made, found, started, now)
    if step is None:
        assert at(now + 1e7).shares == found.shares
        return
    assert step > now
    assert at(step).shares != found.shares
    assert at(now + (step - now) * 0.49).shares == found.shares


@given(TIMES, st.integers(1, 86400), st.lists(st.floats(0, 90000), min_size=2, max_size=8))
def test_a_share_never_shrinks(start: float, seconds: int, later: list[float]) -> None:
    seen = [share_at(start, seconds, start + each) for each in sorted(later)]
    assert seen == sorted(seen)
    assert set(seen) <= set(range(10, 101, 10))
    assert share_at(start, seconds, start) in (10, 20)


@pytest.mark.parametrize("all_down", AllDown)
def test_unknown_services_and_nodes_are_left_out(all_down: AllDown) -> None:
    own = gateway(replace(service(all_down=all_down), slow_start=5))
    strange: Key = ("gone", "n1")
    found = effective(own, Orders({strange: DISABLED}), {strange: False}, {strange: 0.0}, 1, NodeStates())
    assert found == NodeStates()
