from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.nftables import Chain, Change, Ruleset, Set, changes, render, scaffold


def ruleset(*items: Set | Chain) -> Ruleset:
    sets = {item.name: item for item in items if isinstance(item, Set)}
    chains = {item.name: item for item in items if isinstance(item, Chain)}
    return Ruleset(sets, chains)


NODES = Set("nodes", "type ipv4_addr . inet_service", {"10.0.0.11 . 1": ""})
JUMP = Chain("in", ("ip saddr . udp sport @nodes drop",))


def test_nothing_to_change_is_no_transaction() -> None:
    assert changes(ruleset(NODES, JUMP), ruleset(NODES, JUMP)) == Change()


def test_without_a_table_all_of_it_is_put_in_place_at_once() -> None:
    assert changes(None, ruleset(NODES, JUMP)) == Change(render(ruleset(NODES, JUMP)))


def test_changed_element_is_deleted_before_it_is_added() -> None:
    before = Set("to", "type inet_service : ipv4_addr", {"1": "10.0.0.1", "2": "10.0.0.2"})
    after = Set("to", "type inet_service : ipv4_addr", {"1": "10.0.0.9", "2": "10.0.0.2"})
    lines = changes(ruleset(before), ruleset(after)).make.splitlines()
    assert lines[:2] == [
        "delete element inet pointsman to { 1 : 10.0.0.1 }",
        "add element inet pointsman to { 1 : 10.0.0.9 }",
    ]
    assert not lines[2:]


def test_elements_that_packets_own_are_left_alone() -> None:
    def flows(elements: dict[str, str]) -> Set:
        return Set(
            "flows", "type inet_service : inet_service", elements, flags="dynamic", owned_by_packets=True
        )

    assert changes(ruleset(flows({})), ruleset(flows({"1": "2"}))) == Change()


def test_redefined_set_is_replaced_and_the_rules_that_name_it_are_written_again() -> None:
    other = Chain("other", ("drop",))
    larger = Set("nodes", NODES.type_clause, NODES.elements, size=64)
    lines = changes(ruleset(NODES, JUMP, other), ruleset(larger, JUMP, other)).make.splitlines()
    assert lines == [
        "flush chain inet pointsman in",
        "delete set inet pointsman nodes",
        "add set inet pointsman nodes { type ipv4_addr . inet_service; size 64; }",
        "add element inet pointsman nodes { 10.0.0.11 . 1 }",
        "add rule inet pointsman in ip saddr . udp sport @nodes drop",
    ]


def test_set_with_timeouts_is_flushed_as_nobody_knows_what_is_left_of_it() -> None:
    def leaving(key: str) -> Set:
        return Set("leaving", "type inet_service", {key: ""}, flags="timeout")

    lines = changes(ruleset(leaving("1 timeout 9s")), ruleset(leaving("1 timeout 3s"))).make.splitlines()
    assert lines[:2] == [
        "flush set inet pointsman leaving",
        "add element inet pointsman leaving { 1 timeout 3s }",
    ]


def test_what_holds_a_chain_goes_before_the_chain() -> None:
    verdicts = Set("to", "type inet_service : verdict", {"1": "goto gone"})
    gone = Chain("gone", ("drop",))
    lines = changes(ruleset(verdicts, gone, JUMP, NODES), ruleset(JUMP, NODES)).clear.splitlines()
    assert lines.index("delete map inet pointsman to") < lines.index("delete chain inet pointsman gone")
    assert lines[0] == "flush chain inet pointsman gone"


NAMES = st.sampled_from(["a", "b", "c"])
SETS = st.builds(
    Set,
    NAMES,
    st.just("type inet_service"),
    st.dictionaries(st.sampled_from(["1", "2", "3"]), st.just("")),
    size=st.sampled_from([None, 8]),
)
CHAINS = st.builds(
    Chain, st.sampled_from(["x", "y"]), st.lists(st.sampled_from(["drop", "accept"])).map(tuple)
)
RULESETS = st.lists(st.one_of(SETS, CHAINS), max_size=5).map(lambda items: ruleset(*items))


def carried_out(have: Ruleset, transaction: str) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """What a transaction makes of a ruleset, by the plainest reading of its lines; fails as nft would."""
    sets = {name: set(item.elements) for name, item in have.sets.items()}
    chains = {name: list(chain.rules) for name, chain in have.chains.items()}
    for line in transaction.splitlines():
        if line.startswith("#"):
            continue
        verb, kind, _, _, name, *rest = line.split(maxsplit=5)
        keys = (
            {key.strip() for key in rest[0].strip("{ }").split(",")} if rest and kind == "element" else set()
        )
        match verb, kind:
            case "add", "set":
                assert name not in sets
                sets[name] = set()
            case "delete", "set":
                del sets[name]
            case "add", "element":
                assert not keys & sets[name]
                sets[name] |= keys
            case "delete", "element":
                assert keys <= sets[name]
                sets[name] -= keys
            case "add", "chain":
                assert name not in chains
                chains[name] = []
            case "flush", "chain":
                chains[name].clear()
            case "delete", "chain":
                assert not chains.pop(name)
            case "add", "rule":
                chains[name].append(rest[0])
            case _:
                raise AssertionError(line)
    return sets, chains


@given(RULESETS, RULESETS)
def test_any_ruleset_becomes_any_other(have: Ruleset, want: Ruleset) -> None:
    sets, chains = carried_out(have, changes(have, want).text)
    assert sets == {name: set(item.elements) for name, item in want.sets.items()}
    assert chains == {name: list(chain.rules) for name, chain in want.chains.items()}


@given(RULESETS, RULESETS)
def test_packets_under_way_find_what_their_rules_look_for_until_the_table_is_cleared(
    have: Ruleset, want: Ruleset
) -> None:
    """They go by rules of before, over sets as they are then."""
    sets, chains = carried_out(have, changes(have, want).make)
    come = {
        key
        for name, item in want.sets.items()
        for key in item.elements.keys() - (have.sets[name].elements if name in have.sets else {}).keys()
    }
    for name, before in have.sets.items():
        after = want.sets.get(name)
        if after is None:
            assert sets[name] == set(before.elements)
        elif after.definition() == before.definition() and after.size is None:
            assert sets[name] == set(after.elements) | (set(before.elements) - come)
    assert chains.keys() == have.chains.keys() | want.chains.keys()


def test_a_key_that_goes_to_another_set_is_in_one_of_them_alone() -> None:
    """A node's endpoint whose service is translated another way."""
    before = ruleset(NODES, Set("others", NODES.type_clause))
    after = ruleset(Set("nodes", NODES.type_clause), Set("others", NODES.type_clause, NODES.elements))
    change = changes(before, after)
    assert "delete element inet pointsman nodes { 10.0.0.11 . 1 }" in change.make
    assert not change.clear


def test_a_set_without_room_for_both_has_the_new_elements_alone() -> None:
    before = Set("nodes", "type inet_service", {"1": "", "2": ""}, size=2)
    change = changes(ruleset(before), ruleset(Set("nodes", "type inet_service", {"2": "", "3": ""}, size=2)))
    assert change.make.splitlines() == [
        "delete element inet pointsman nodes { 1 }",
        "add element inet pointsman nodes { 3 }",
    ]
    assert not change.clear


@given(RULESETS)
def test_a_table_built_in_pieces_is_the_whole_table(want: Ruleset) -> None:
    sets, pieces = scaffold(want)
    lines = [line for piece in pieces for line in piece.splitlines() if line.split()[1] != "table"]
    built = carried_out(Ruleset({}, {}), "\n".join([*lines, changes(sets, want).text]))
    assert built == carried_out(want, "")
