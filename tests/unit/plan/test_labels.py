from __future__ import annotations

from ipaddress import ip_address

import pytest

from pointsman.model import Node, NodeAddress
from pointsman.plan.labels import LAST_LABEL, Labels, OutOfLabelsError, allocate


def node(name: str, address: str = "10.0.0.11") -> Node:
    return Node(name, (NodeAddress(ip_address(address)),))


def test_label_of_a_node_survives_changes_around_it() -> None:
    first = allocate([node("a"), node("b"), node("c")], Labels(), now=0, rest=60)
    second = allocate([node("x"), node("c"), node("a")], first, now=1, rest=60)
    assert second.of(node("a")) == first.of(node("a"))
    assert second.of(node("c")) == first.of(node("c"))


def test_freed_label_rests_before_it_means_another_node() -> None:
    first = allocate([node("a")], Labels(), now=0, rest=60)
    second = allocate([node("b")], first, now=1, rest=60)
    assert second.of(node("b")) != first.of(node("a"))
    still_resting = allocate([node("b"), node("c")], second, now=60, rest=60)
    assert still_resting.of(node("c")) != first.of(node("a"))
    rested = allocate([node("b"), node("d")], second, now=62, rest=60)
    assert rested.of(node("d")) == first.of(node("a"))


def test_same_node_in_two_services_shares_its_label() -> None:
    labels = allocate([node("a"), node("a")], Labels(), now=0, rest=0)
    assert len(labels.by_node) == 1


def test_node_that_moved_to_another_address_is_another_node_for_flows() -> None:
    first = allocate([node("a")], Labels(), now=0, rest=60)
    second = allocate([node("a", "10.0.0.99")], first, now=1, rest=60)
    assert second.of(node("a", "10.0.0.99")) != first.of(node("a"))


def test_more_nodes_than_labels_is_an_error() -> None:
    many = [node(str(number)) for number in range(LAST_LABEL + 1)]
    with pytest.raises(OutOfLabelsError, match="65536 distinct nodes"):
        allocate(many, Labels(), now=0, rest=0)
    assert len(allocate(many[:-1], Labels(), now=0, rest=0).by_node) == LAST_LABEL
