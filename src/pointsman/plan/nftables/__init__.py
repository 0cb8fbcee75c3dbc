"""The gateway's meaning as one nftables table: pure values and text, no effect."""

from pointsman.plan.nftables.compile import compile_ruleset
from pointsman.plan.nftables.diff import changes
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

__all__ = [
    "TABLE",
    "Chain",
    "Ruleset",
    "Set",
    "add_applied",
    "changes",
    "compile_ruleset",
    "render",
    "scaffold",
    "stamp",
]
