"""Whole rulesets, as files to read: `POINTSMAN_GOLDEN=write make unit` writes them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest

from pointsman.config import load
from pointsman.model import Node, NodeAddress, NodeState, NodeStates
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.nftables import changes, compile_ruleset, render

HERE = Path(__file__).parent / "rulesets"
FILES = sorted(HERE.glob("*.toml"))


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
    compare(HERE / "drain-and-disable.nft", changes(compile_ruleset(before), compile_ruleset(after)))


def test_removing_a_node_is_the_golden_transaction() -> None:
    before = inputs(HERE / "coaps.toml")
    after = inputs(HERE / "coaps-two-nodes.toml")
    gone = before.gateway.services[0].nodes[2]
    label = before.labels.of(gone)
    leaving = PlaneInputs(after.gateway, after.states, before.labels, (Leaving("coaps", gone, label, 120),))
    compare(HERE / "remove-a-node.nft", changes(compile_ruleset(before), compile_ruleset(leaving)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("case", ["all", "leaving", "renamed", "down"])
def test_every_set_and_chain_that_a_rule_names_is_there(path: Path, case: str) -> None:
    made = inputs(path)
    service = made.gateway.services[0]
    node = service.nodes[0]
    stranger = Node("gone", (NodeAddress(ip_address("10.9.9.9")), NodeAddress(ip_address("fd09::9"))))
    leaving = {
        "leaving": (Leaving(service.name, stranger, 99, 5),),
        "renamed": (Leaving(service.name, replace(node, name="before"), 99, 5),),
    }.get(case, ())
    down = {(service.name, one.name): NodeState.DOWN for one in service.nodes} if case == "down" else {}
    ruleset = compile_ruleset(replace(made, leaving=leaving, states=NodeStates(down)))
    for chain in ruleset.chains.values():
        for rule in chain.rules:
            words = rule.split()
            named = [
                word[1:] for word in words if word.startswith("@") and not word.startswith(("@th,", "@nh,"))
            ]
            assert set(named) <= ruleset.sets.keys(), rule
            targets = [after for word, after in pairwise(words) if word in ("goto", "jump")]
            assert set(targets) <= ruleset.chains.keys(), rule
