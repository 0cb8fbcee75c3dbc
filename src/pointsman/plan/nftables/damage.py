"""What others have done to tables of ours, as far as their rules tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pointsman.plan.nftables.ruleset import Ruleset

_CHAIN = re.compile(r"\tchain (\S+) \{")


def damage(ruleset: Ruleset, listing: str) -> Iterator[str]:
    """Compare the table with what ``nft -s -t list table`` says of it, chain by chain, by the number of rules.

    Rules cannot be compared as text, as nft writes them its own way; one that was put in another's place is not seen.
    """
    found = rules_listed(listing)
    for chain in ruleset.chains.values():
        count = found.get(chain.name)
        if count is None:
            yield f"chain {ruleset.table} {chain.name} is gone"
        elif count != len(chain.rules):
            yield f"chain {ruleset.table} {chain.name} has {count} rules in place of {len(chain.rules)}"


def rules_listed(listing: str) -> dict[str, int]:
    """How many rules each chain has, in the text of a table."""
    found: dict[str, int] = {}
    chain = None
    for line in listing.splitlines():
        if match := _CHAIN.fullmatch(line):
            chain = match[1]
            found[chain] = 0
        elif line == "\t}":
            chain = None
        elif chain is not None and line.startswith("\t\t") and not line.startswith("\t\ttype "):
            found[chain] += 1
    return found
