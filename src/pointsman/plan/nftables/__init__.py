"""The gateway's meaning as one nftables table: pure values and text, no effect."""

from pointsman.plan.nftables.compile import compile_ruleset
from pointsman.plan.nftables.diff import Change, changes
from pointsman.plan.nftables.ruleset import (
    TABLE,
    Chain,
    Ruleset,
    Set,
    add_applied,
    render,
    scaffold,
    stamp,
)
from pointsman.plan.nftables.transaction import ALL_TABLES, change, direct_changes, removal, stale_tables

__all__ = [
    "ALL_TABLES",
    "TABLE",
    "Chain",
    "Change",
    "Ruleset",
    "Set",
    "add_applied",
    "change",
    "changes",
    "compile_ruleset",
    "direct_changes",
    "removal",
    "render",
    "scaffold",
    "stale_tables",
    "stamp",
]
