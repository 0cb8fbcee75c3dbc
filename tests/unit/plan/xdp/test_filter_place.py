"""Filters' places: the same filter keeps its own, nothing overlaps, and all of it is given back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.config import parse
from pointsman.plan.xdp.abi_filter import FilterRule, PrefixSays, RuleFlag
from pointsman.plan.xdp.filter_compile import FilterEntry, filter_entry, guard_entries, guard_table
from pointsman.plan.xdp.filter_place import (
    PEERS,
    PREFIXES,
    FilterLayout,
    FilterSizes,
    PlacedFilter,
    filter_sizes,
    place_filter,
    release_filter,
)
from pointsman.plan.xdp.space import FullError

SIZES = FilterSizes(40, 20, 400, PREFIXES, PEERS, 4)
ENTRIES = st.builds(
    lambda nodes, total, ports: FilterEntry(
        FilterRule(hello_node_quarter=nodes, hello_total_quarter=total), bytes(8192) if ports else b""
    ),
    st.integers(0, 1),
    st.integers(0, 1),
    st.booleans(),
)
STEPS = st.lists(
    st.dictionaries(
        st.sampled_from("abcd"), st.tuples(ENTRIES, st.frozensets(st.integers(1, 9))), max_size=4
    ),
    max_size=8,
)


@given(STEPS)
def test_nothing_overlaps_and_everything_comes_back(
    steps: list[dict[str, tuple[FilterEntry, frozenset[int]]]],
) -> None:
    layout = FilterLayout(SIZES)
    standing: dict[str, tuple[FilterEntry, PlacedFilter]] = {}
    for wanted in [*steps, {}]:
        placed = {}
        for service, (entry, labels) in wanted.items():
            old = standing.get(service)
            before = old[1] if old is not None and old[0] == entry else None
            placed[service] = entry, place_filter(layout, entry, sorted(labels), before)
            if before is not None:
                assert placed[service][1].number == before.number
                kept = before.nodes.keys() & placed[service][1].nodes.keys()
                assert all(before.nodes[label] == placed[service][1].nodes[label] for label in kept)
        every = {own.number: own for _, own in (*standing.values(), *placed.values())}
        budgets = [own.total for own in every.values() if own.total]
        budgets += {node for _, own in (*standing.values(), *placed.values()) for node in own.nodes.values()}
        assert 0 not in every
        assert len(set(budgets)) == len(budgets)
        current = {own.number: own for _, own in placed.values()}
        for _, own in standing.values():
            release_filter(layout, own, current.get(own.number))
        standing = placed
    assert layout.rules.taken == layout.budgets.taken == 1
    assert layout.port_sets.taken == 0


def test_what_stands_is_adopted() -> None:
    layout = FilterLayout(SIZES)
    layout.adopt(
        [PlacedFilter(3, 2, 7, {1: 11}), PlacedFilter(3, 2, 7, {2: 12}), PlacedFilter(5, None, 0, {})], [1]
    )
    assert layout.placed[3].nodes == {1: 11, 2: 12}
    assert (layout.rules.taken, layout.port_sets.taken, layout.budgets.taken) == (3, 1, 4)
    assert layout.guard_tables.taken == 1


def test_memory_that_was_not_allocated_takes_a_new_set() -> None:
    layout = FilterLayout(replace(SIZES, prefixes=1, peers=1))
    for rule in (FilterRule(cid_prefix_quarter=1), FilterRule(amplification=1)):
        with pytest.raises(FullError):
            place_filter(layout, FilterEntry(rule), (), None)
    assert place_filter(layout, FilterEntry(FilterRule()), (), None).number == 1


TEXT = """
[gateway]
name = "a"
hash_seed = 1
[[service]]
name = "s"
protocol = "dtls"
listen = ["192.0.2.10:5684"]
connection_id = { offset = 0, bits = 8, length = 6 }
  [[service.node]]
  name = "n1"
  id = 1
  address = "10.0.0.11"
  [service.filter]
  level = "record"
  mode = "monitor"
  prefix4 = 20
  prefix6 = 48
  drop_source_ports = [1, 65535]
  deny = ["10.0.0.0/8", "2001:db8::/32"]
  allow = ["10.0.0.0/8", "10.1.0.0/16"]
  hello = { per_prefix = 50, burst = 3 }
[[guard]]
name = "g"
interface = "eth0"
ports = [1, "65534-65535"]
[guard.filter]
"""


def test_a_filter_compiles_to_what_it_says() -> None:
    gateway = parse(TEXT, "a").gateway
    entry = filter_entry(gateway.services[0])
    assert entry is not None
    assert entry is filter_entry(gateway.services[0])
    rule = entry.template
    assert rule.flags == (RuleFlag.RECORDS | RuleFlag.SOURCE_PORTS | RuleFlag.PREFIXES4 | RuleFlag.PREFIXES6)
    assert (rule.cid_length, rule.mask4, rule.mask6) == (6, 0x00F0FFFF, b"\xff" * 6 + bytes(10))
    assert set(entry.prefixes4) == {
        (8, b"\n\0\0\0", PrefixSays.ALLOWED),
        (16, b"\n\1\0\0", PrefixSays.ALLOWED),
    }
    assert [said for *_, said in entry.prefixes6] == [PrefixSays.DENIED]
    assert (entry.source_ports[0], entry.source_ports[-1], sum(entry.source_ports)) == (2, 128, 130)
    # A fiftieth of a second is four quarters; times are in sixteenths of a nanosecond.
    assert rule.hello_prefix_quarter * 4 == 16 * 1_000_000_000 // 50
    assert rule.hello_prefix_depth == 3 * 16 * 1_000_000_000
    assert entry.limits_prefixes
    assert not any((entry.limits_nodes, entry.limits_all, entry.limits_answers))
    assert filter_sizes([(entry, 1)]).prefixes == PREFIXES


def test_a_guards_table_has_its_ports() -> None:
    (guard,) = guard_entries(parse(TEXT, "a").gateway)
    table = guard_table([(guard, 0x0102)])
    words = memoryview(table).cast("H")
    assert len(words) == 65536
    assert {port for port, number in enumerate(words) if number == 0x0102} == {0, 1, 65534, 65535}
    assert filter_sizes([], [guard]).guard_tables >= 2
