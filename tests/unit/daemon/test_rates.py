from __future__ import annotations

from pointsman.daemon.draining import Draining
from pointsman.daemon.rates import LONGEST, Rates
from pointsman.dataplane.protocol import Count
from pointsman.plan.verdicts import Verdict


def cid(packets: int, node: str = "n1") -> Count:
    return Count("s", node, Verdict.CID, packets, 100 * packets)


def test_a_rate_is_packets_over_the_time_between_two_looks() -> None:
    rates = Rates()
    rates.take([cid(100)], 10.0)
    assert rates.take([cid(150)], 12.0) == {("s", "n1", "cid"): 25.0}


def test_the_first_look_has_no_rates() -> None:
    assert Rates().take([cid(100)], 10.0) == {}


def test_a_counter_that_began_anew_has_no_rate() -> None:
    rates = Rates()
    rates.take([cid(100)], 10.0)
    assert rates.take([cid(3)], 12.0) == {}


def test_looks_close_together_keep_the_rates_of_before() -> None:
    rates = Rates()
    rates.take([cid(0)], 10.0)
    before = rates.take([cid(10)], 11.0)
    assert rates.take([cid(1000)], 11.1) == before


def test_what_was_counted_long_ago_says_nothing_of_now() -> None:
    rates = Rates()
    rates.take([cid(0)], 10.0)
    assert rates.take([cid(10_000)], 10.0 + LONGEST + 1) == {}


def test_a_node_is_quiet_since_its_count_last_grew() -> None:
    draining = Draining()
    draining.feed([cid(5)], [("s", "n1")], 10.0)
    draining.feed([cid(7)], [("s", "n1")], 20.0)
    draining.feed([cid(7)], [("s", "n1")], 30.0)
    assert draining.quiet("s", "n1", 35.0) == 15.0


def test_new_handshakes_elsewhere_do_not_disturb_the_quiet() -> None:
    draining = Draining()
    draining.feed([cid(5), cid(1, "n2")], [("s", "n1")], 10.0)
    draining.feed([cid(5), cid(9, "n2"), Count("s", "n1", Verdict.REPLY, 9, 9)], [("s", "n1")], 20.0)
    assert draining.quiet("s", "n1", 20.0) == 10.0


def test_a_node_that_is_drained_no_more_is_forgotten() -> None:
    draining = Draining()
    draining.feed([cid(5)], [("s", "n1")], 10.0)
    draining.feed([cid(5)], [], 20.0)
    assert draining.quiet("s", "n1", 30.0) == 0.0
