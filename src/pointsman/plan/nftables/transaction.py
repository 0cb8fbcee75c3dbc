"""One change for all tables: the one of translated services, and those of services passed by."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.model import Family
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.nftables.compile import compile_ruleset
from pointsman.plan.nftables.diff import Change, changes
from pointsman.plan.nftables.direct import TABLES, compile_direct
from pointsman.plan.nftables.ruleset import TABLE, render

ALL_TABLES = (TABLE, *TABLES.values())


def change(have: PlaneInputs | None, want: PlaneInputs) -> Change:
    """The change from ``have`` (None: whatever stands) to ``want``; none where nothing differs."""
    before = None if have is None else compile_ruleset(have)
    return changes(before, compile_ruleset(want)) + direct_changes(have, want)


def direct_changes(have: PlaneInputs | None, want: PlaneInputs) -> Change:
    """The same for the tables of services passed by alone."""
    return sum((part for family in Family for part in _of_family(have, want, family)), Change())


def _of_family(have: PlaneInputs | None, want: PlaneInputs, family: Family) -> Iterator[Change]:
    before = compile_direct(have, family) if have is not None else None
    after = compile_direct(want, family)
    if after is not None:
        yield Change(render(after)) if before is None else changes(before, after)
    elif before is not None:
        yield Change(removal(TABLES[family]))


def stale_tables(want: PlaneInputs) -> str:
    """Make sure that tables of services passed by that are not wanted are not there, whoever left them."""
    gone = [table for family, table in TABLES.items() if compile_direct(want, family) is None]
    return "".join(removal(table) for table in gone)


def removal(table: str) -> str:
    """Make sure that a table is not there."""
    return f"add table {table}\ndelete table {table}\n"
