"""Whole rulesets, as files to read: `POINTSMAN_GOLDEN=write make unit` writes them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest

from pointsman.config import load
from pointsman.model import Family, Node, NodeAddress, NodeState, NodeStates, Protocol, Scheduler
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.nftables import Ruleset, change, changes, compile_ruleset, render, stale_tables
from pointsman.plan.nftables.direct import compile_direct

HERE = Path(__file__).parent / "rulesets"
FILES = sorted(HERE.glob("*.toml"))
DIRECT = ("direct", "direct-services")


def inputs(path: Path, states: NodeStates | None = None) -> PlaneInputs:
    gateway = load(path).gateway
    labels = allocate(
        [node for service in gateway.services for node in service.nodes], Labels(), now=0, rest=0
    )
    return PlaneInputs(gateway, states or NodeStates(), labels)


def compare(golden: Path, text: str) -> None:
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ruleset_is_the_golden_one(path: Path) -> None:
    compare(path.with_suffix(".nft"), render(compile_ruleset(inputs(path))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_compiling_twice_gives_the_same_bytes(path: Path) -> None:
    assert render(compile_ruleset(inputs(path))) == render(compile_ruleset(inputs(path)))


def test_draining_and_disabling_is_the_golden_transaction() -> None:
    path = HERE / "coaps.toml"
    before = inputs(path)
    states = NodeStates({("coaps", "n1"): NodeState.DRAINING, ("coaps", "n2"): NodeState.DISABLED})
    after = inputs(path, states)
    compare(HERE / "drain-and-disable.nft", changes(compile_ruleset(before), compile_ruleset(after)).text)


def test_a_step_of_a_slow_start_is_the_golden_transaction() -> None:
    path = HERE / "coaps-two-nodes.toml"
    before, after = (inputs(path, NodeStates(shares={("coaps", "n1"): share})) for share in (10, 20))
    compare(HERE / "slow-start.nft", changes(compile_ruleset(before), compile_ruleset(after)).text)


def test_removing_a_node_is_the_golden_transaction() -> None:
    before = inputs(HERE / "coaps.toml")
    after = inputs(HERE / "coaps-two-nodes.toml")
    gone = before.gateway.services[0].nodes[2]
    label = before.labels.of(gone)
    leaving = PlaneInputs(after.gateway, after.states, before.labels, (Leaving("coaps", gone, label, 120),))
    compare(HERE / "remove-a-node.nft", changes(compile_ruleset(before), compile_ruleset(leaving)).text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("case", ["all", "leaving", "renamed", "down"])
def test_every_set_and_chain_that_a_rule_names_is_there(path: Path, case: str) -> None:
    made = inputs(path)
    if not made.gateway.services:
        _names_are_there(made)
        return
    service = made.gateway.services[0]
    node = service.nodes[0]
    stranger = Node("gone", (NodeAddress(ip_address("10.9.9.9")), NodeAddress(ip_address("fd09::9"))))
    leaving: tuple[Leaving, ...] = {
        "leaving": (Leaving(service.name, stranger, 99, 5),),
        "renamed": (Leaving(service.name, replace(node, name="before"), 99, 5),),
    }.get(case, ())
    down = _all_down(made) if case == "down" else {}
    leaving += tuple(
        replace(one, service=other.name) for one in leaving for other in made.gateway.services[1:]
    )
    _names_are_there(replace(made, leaving=leaving, states=NodeStates(down)))


def _all_down(made: PlaneInputs) -> dict[tuple[str, str], NodeState]:
    return {
        (service.name, node.name): NodeState.DOWN
        for service in made.gateway.services
        for node in service.nodes
    }


def _names_are_there(made: PlaneInputs) -> None:
    direct = (compile_direct(made, family) for family in Family)
    for ruleset in (compile_ruleset(made), *filter(None, direct)):
        _names_are_in(ruleset)


def _names_are_in(ruleset: Ruleset) -> None:
    for chain in ruleset.chains.values():
        for rule in chain.rules:
            words = rule.split()
            named = [
                word[1:]
                for word in words
                if word.startswith("@") and not word.startswith(("@th,", "@nh,", "@ll,"))
            ]
            assert set(named) <= ruleset.sets.keys(), rule
            targets = [after.rstrip(",") for word, after in pairwise(words) if word in ("goto", "jump")]
            assert set(targets) <= ruleset.chains.keys(), rule


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("name", DIRECT)
def test_the_tables_of_services_passed_by_are_the_golden_ones(name: str, family: Family) -> None:
    ruleset = compile_direct(inputs(HERE / f"{name}.toml"), family)
    assert ruleset is not None
    compare(HERE / f"{name}-ip{family.value}.nft", render(ruleset))


@pytest.mark.parametrize("family", list(Family))
def test_all_that_a_service_has_is_in_the_tables_of_services_passed_by(family: Family) -> None:
    """One key after the other, taken away, changes the table: none is ignored there."""
    made = inputs(HERE / "direct-services.toml")
    coaps, video = made.gateway.services
    whole = compile_direct(made, family)
    for service, fields in (
        (coaps, {"filter": None}),
        (coaps, {"connection_id": None}),
        (coaps, {"scheduler": Scheduler.MAGLEV}),
        (video, {"affinity": None}),
        (video, {"protocol": Protocol.UDP}),
        (video, {"scheduler": Scheduler.MAGLEV}),
    ):
        others = tuple(replace(one, **fields) if one is service else one for one in (coaps, video))
        gateway = replace(made.gateway, services=others)
        assert compile_direct(replace(made, gateway=gateway), family) != whole, fields


def test_services_are_passed_by_or_translated_and_never_both() -> None:
    every = inputs(HERE / "direct.toml")
    assert "plain/192.0.2.10-5683/in" in compile_ruleset(every).chains
    assert not any(name.startswith("coaps") for name in compile_ruleset(every).chains)
    direct = compile_direct(every, Family.V4)
    assert direct is not None
    assert not any(name.startswith("plain") for name in direct.chains)
    assert compile_direct(inputs(HERE / "coaps.toml"), Family.V4) is None


def test_a_change_of_a_service_passed_by_touches_its_tables_alone() -> None:
    before = inputs(HERE / "direct.toml")
    after = inputs(HERE / "direct.toml", NodeStates({("coaps", "n1"): NodeState.DRAINING}))
    lines = [line for line in change(before, after).text.splitlines() if not line.startswith("#")]
    assert lines
    assert {tuple(line.split()[2:4]) for line in lines if line.split()[1] in ("chain", "rule")} == {
        ("ip", "pointsman"),
        ("ip6", "pointsman"),
    }
    assert not change(before, before)


def test_without_services_passed_by_their_tables_go() -> None:
    before, after = inputs(HERE / "direct.toml"), inputs(HERE / "coaps.toml")
    text = change(before, after).make
    assert "delete table ip pointsman\n" in text
    assert "delete table ip6 pointsman\n" in text
    assert "delete table ip pointsman" in stale_tables(after)
    assert stale_tables(before) == ""
