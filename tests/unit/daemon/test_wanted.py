from __future__ import annotations

from dataclasses import replace

from pointsman.config import Loaded, parse
from pointsman.daemon.wanted import Wanted, addresses_of, adopted, last_known
from pointsman.model import NodeState, NodeStates
from pointsman.model.orders import Order, OrderBook, Replacement, Verb

TEXT = """\
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "s"
protocol = "udp"
listen = ["192.0.2.10:5683", "[2001:db8::10]:5683"]
slow_start = "90s"
  [[service.node]]
  name = "n1"
  address = ["10.0.0.11", "fd00::11"]
  [[service.node]]
  name = "n2"
  address = ["10.0.0.12:9", "[fd00::12]:9"]
  [[service.check]]
  type = "udp"
  send = "x"
"""
UP = NodeStates()


def loaded(text: str = TEXT) -> Loaded:
    return parse(text, "gateway.toml")


def order(node: str | None, verb: Verb) -> Order:
    return Order("s", node, verb, "uid 0", 1.0)


def test_addresses_are_told_as_the_file_would() -> None:
    gateway = loaded().gateway
    assert addresses_of(gateway, "s", "n1") == ("10.0.0.11", "fd00::11")
    assert addresses_of(gateway, "s", "n2") == ("10.0.0.12:9", "[fd00::12]:9")
    assert addresses_of(gateway, "s", "n9") == addresses_of(gateway, "t", "n1") == ()


def test_a_verdict_and_an_order_make_a_state() -> None:
    wanted = Wanted(loaded()).with_verdict(("s", "n1"), healthy=False)
    assert wanted.states(UP, 0.0).of("s", "n1") is NodeState.DOWN
    ordered = replace(wanted, book=OrderBook((order("n1", Verb.DISABLE),)))
    assert ordered.states(UP, 0.0).of("s", "n1") is NodeState.DISABLED


def test_a_node_that_comes_back_starts_slowly_and_ends_with_all_of_it() -> None:
    wanted = Wanted(loaded()).with_verdict(("s", "n1"), healthy=False)
    down = wanted.states(UP, 0.0)
    back = wanted.with_verdict(("s", "n1"), healthy=True)
    back = back.after(down, back.states(down, 10.0), 10.0)
    assert back.states(down, 10.0).share("s", "n1") == 10
    assert back.states(down, 10.0 + 46.0).share("s", "n1") == 50
    assert back.states(down, 10.0 + 91.0).share("s", "n1") == 100


def test_the_first_verdict_of_a_new_daemon_starts_nothing_slowly() -> None:
    wanted = Wanted(loaded()).with_verdict(("s", "n1"), healthy=True)
    assert wanted.after(UP, wanted.states(UP, 5.0), 5.0).started == {}


def test_what_was_down_stays_down_until_a_check_says_otherwise() -> None:
    before = NodeStates({("s", "n1"): NodeState.DOWN, ("s", "n2"): NodeState.DRAINING})
    wanted = Wanted(loaded(), healthy=last_known(before))
    assert wanted.states(before, 0.0).of("s", "n1") is NodeState.DOWN


def test_orders_of_before_the_daemon_are_adopted_once() -> None:
    before = NodeStates({("s", "n1"): NodeState.DISABLED, ("s", "n2"): NodeState.DOWN})
    book = adopted(before, OrderBook(), "before", 3.0)
    assert [(each.node, each.verb) for each in book.orders] == [("n1", Verb.DISABLE)]
    assert adopted(before, book, "before", 4.0) == book


def test_nodes_of_a_service_disabled_as_a_whole_are_not_taken_for_ordered_ones() -> None:
    book = OrderBook((order(None, Verb.DISABLE),))
    before = NodeStates({("s", "n1"): NodeState.DISABLED, ("s", "n2"): NodeState.DISABLED})
    assert adopted(before, book, "before", 3.0) == book


def test_a_replacement_holds_until_the_file_says_something_else_of_the_node() -> None:
    replacement = Replacement("s", "n1", ("10.0.0.21", "fd00::21"), ("10.0.0.11", "fd00::11"), "uid 0", 1.0)
    wanted = Wanted(loaded(), OrderBook(replacements=(replacement,)))
    assert wanted.replacements() == {("s", "n1"): ("10.0.0.21", "fd00::21")}
    assert wanted.with_loaded(loaded(TEXT.replace("10.0.0.11", "10.0.0.31"))).replacements() == {}
    assert wanted.with_loaded(loaded(TEXT.replace('"n1"', '"n7"'))).replacements() == {}


def test_verdicts_of_checks_that_are_no_more_are_forgotten() -> None:
    wanted = Wanted(loaded()).with_verdict(("s", "n1"), healthy=False)
    without = TEXT[: TEXT.index("  [[service.check]]")]
    assert wanted.with_loaded(loaded(without)).healthy == {}
    assert wanted.with_loaded(loaded()).healthy == {("s", "n1"): False}


def test_orders_about_what_the_file_has_not_are_kept_for_the_next_one() -> None:
    wanted = Wanted(loaded(), OrderBook((order("n1", Verb.DRAIN),)))
    other = wanted.with_loaded(loaded(TEXT.replace('"n1"', '"n7"')))
    assert other.states(UP, 0.0) == UP
    assert other.with_loaded(loaded()).states(UP, 0.0).of("s", "n1") is NodeState.DRAINING
