"""The view of `pointsman top`, key by key."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console
from tests.unit.api.fake import FakeOperator

from pointsman.api.documents import Status, Verb
from pointsman.cli.top_view import Sort, View, Wanted, drawn, pressed, rows


@pytest.fixture
def status() -> Status:
    return asyncio.run(FakeOperator().status())


def names(view: View, status: Status) -> list[str]:
    return [row.name for row in rows(view, status)]


def text(view: View, status: Status, height: int = 30) -> str:
    console = Console(width=150, file=io.StringIO())
    console.print(drawn(view, status, status.started + 3600, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("key", "sort", "order"),
    [
        ("n", Sort.NAME, ["coap/n1", "coaps/n1", "coaps/n2"]),
        ("c", Sort.CID, ["coaps/n2", "coap/n1", "coaps/n1"]),
        ("t", Sort.TOTAL, ["coaps/n2", "coap/n1", "coaps/n1"]),
        ("s", Sort.STATE, ["coap/n1", "coaps/n1", "coaps/n2"]),
    ],
)
def test_a_key_sorts(status: Status, key: str, sort: Sort, order: list[str]) -> None:
    view, wanted = pressed(View(), key, status)
    assert (view.sort, wanted, names(view, status)) == (sort, None, order)


def test_the_selection_moves_and_stops_at_the_ends(status: Status) -> None:
    view = View()
    selected = []
    for key in ("j", "\x1b[B", "j", "k", "\x1b[A", "k"):
        view, _ = pressed(view, key, status)
        selected.append(view.selected)
    assert selected == ["coaps/n1", "coaps/n2", "coaps/n2", "coaps/n1", "coap/n1", "coap/n1"]


def test_the_selection_stays_with_its_node_when_rows_change_places(status: Status) -> None:
    view, _ = pressed(View(selected="coaps/n1"), "c", status)
    assert view.selected == "coaps/n1"
    view, _ = pressed(view, "d", status)
    assert view.asked == Wanted(Verb.DRAIN, "coaps", "n1")


@pytest.mark.parametrize(("key", "verb"), [("d", Verb.DRAIN), ("e", Verb.ENABLE), ("x", Verb.DISABLE)])
def test_an_order_is_given_only_when_it_is_confirmed(status: Status, key: str, verb: Verb) -> None:
    asking, wanted = pressed(View(selected="coaps/n2"), key, status)
    assert wanted is None
    assert f"{verb} coaps/n2? y" in text(asking, status)
    assert pressed(asking, "y", status)[1] == Wanted(verb, "coaps", "n2")
    for other in ("n", "\r", "q", key):
        view, wanted = pressed(asking, other, status)
        assert (wanted, view.said, view.ended) == (None, "not done", False)


@pytest.mark.parametrize("key", ["q", "\x03", "\x1b"])
def test_it_ends_at_a_key(status: Status, key: str) -> None:
    assert pressed(View(), key, status)[0].ended


def test_a_gateway_without_nodes_has_nothing_to_select(status: Status) -> None:
    empty = status.model_copy(update={"services": []})
    for key in "jkdex":
        assert pressed(View(), key, empty) == (View(), None)
    assert "0 nodes" in text(View(), empty)


def test_the_screen_shows_the_rows_around_the_selected_one(status: Status) -> None:
    assert "coap/n1" in text(View(), status, height=5)
    low = text(View(selected="coaps/n2"), status, height=5)
    assert "coaps/n2" in low
    assert "coap/n1" not in low
