from __future__ import annotations

import json
from pathlib import Path

import pytest

from pointsman.kernel.errors import KernelError
from pointsman.model.orders import Order, OrderBook, Replacement, Verb
from pointsman.reconcile.store import KEPT, Store, Trial

BOOK = OrderBook(
    (
        Order("s", "n1", Verb.DRAIN, "uid 0", 12.5, "new kernel", 99.0),
        Order("t", None, Verb.DISABLE, "uid 0", 1.0),
    ),
    (Replacement("s", "n2", ("10.0.0.21", "fd00::21"), ("10.0.0.12",), "uid 0", 3.0, "broken"),),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_orders_come_back_as_they_were_written(store: Store) -> None:
    assert store.orders() == OrderBook()
    store.write_orders(BOOK)
    assert store.orders() == BOOK


def test_no_orders_leave_no_file(store: Store, tmp_path: Path) -> None:
    store.write_orders(BOOK)
    store.write_orders(OrderBook())
    assert not list((tmp_path / "store").glob("*.json"))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 1}', '{"version": 9}', '{"version": 1, "orders": [{}]}']
)
def test_a_strange_file_is_one_line_and_no_order_is_guessed(
    store: Store, tmp_path: Path, content: str
) -> None:
    store.write_orders(BOOK)
    (tmp_path / "store/orders.json").write_text(content)
    with pytest.raises(KernelError, match="is not this version's"):
        store.orders()


def test_a_trial_outlives_the_process(store: Store, tmp_path: Path) -> None:
    store.write_trial(Trial(50.0, 3))
    assert Store(tmp_path / "store").trial() == Trial(50.0, 3)
    store.write_trial(None)
    assert store.trial() is None


def test_the_newest_configurations_are_kept_under_their_numbers(store: Store) -> None:
    for index in range(KEPT + 3):
        store.keep(f"# {index}\n", "gateway.toml", "uid 0", float(index))
    kept = store.kept()
    assert [each.number for each in kept] == list(range(4, KEPT + 4))
    assert store.text(4) == "# 3\n"
    assert store.text(3) is None
    assert (kept[-1].at, kept[-1].filename, kept[-1].who) == (KEPT + 2.0, "gateway.toml", "uid 0")


def test_the_same_text_again_is_kept_once(store: Store) -> None:
    first = store.keep("x\n", "a", "uid 0", 1.0)
    assert store.keep("x\n", "a", "uid 0", 2.0) == first
    assert len(store.kept()) == 1


def test_a_text_without_its_note_is_kept_all_the_same(store: Store, tmp_path: Path) -> None:
    store.keep("x\n", "a", "uid 0", 1.0)
    (tmp_path / "store/history/000001.json").write_text("{")
    assert [(each.number, each.who) for each in store.kept()] == [(1, "")]


def test_nobody_else_may_read_what_is_kept(store: Store, tmp_path: Path) -> None:
    store.write_orders(BOOK)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store/orders.json").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_the_orders_of_before(store: Store, tmp_path: Path) -> None:
    store.write_orders(BOOK)
    before = (tmp_path / "store/orders.json").read_text()
    (tmp_path / "store/orders.new").symlink_to("/dev/full")
    with pytest.raises(KernelError, match="cannot write"):
        store.write_orders(OrderBook(BOOK.orders))
    assert json.loads((tmp_path / "store/orders.json").read_text()) == json.loads(before)


def test_strange_files_are_moved_away_so_that_there_is_a_start(store: Store, tmp_path: Path) -> None:
    store.write_orders(BOOK)
    store.write_trial(Trial(50.0, 3))
    assert store.set_aside() == []
    (tmp_path / "store/trial.json").write_text('{"version": 1, "until": "soon", "back_to": 1}')
    assert len(store.set_aside()) == 1
    assert store.orders() == BOOK
    (tmp_path / "store/orders.json").write_bytes(b"\xff")
    assert len(store.set_aside()) == 1
    assert (store.orders(), store.trial()) == (OrderBook(), None)
    assert (tmp_path / "store/orders.json.strange").read_bytes() == b"\xff"


def test_what_a_trial_goes_back_to_is_kept_however_many_come(store: Store) -> None:
    first = store.keep("first", "f", "a", 1.0)
    store.write_trial(Trial(100.0, first.number))
    for number in range(KEPT + 5):
        store.keep(f"text {number}", "f", "a", 2.0)
    assert store.text(first.number) == "first"
    store.write_trial(None)
    store.keep("one more", "f", "a", 3.0)
    assert store.text(first.number) is None
