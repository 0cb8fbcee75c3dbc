"""What each feature of the ruleset costs: the ruleset without it, measured beside the whole.

An ablation is a name and a function from ruleset text to ruleset text. One that finds nothing to take out is
left out of the table, so that "costs nothing" always means "was measured".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.contenders import Ablation, Contender, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = "the whole ruleset"
AGAIN = "the same once more: the noise"

# `counter name "x"`, `counter name ip daddr map @m`, `counter packets 0 bytes 0`, `counter`; as a
# statement, not as a declaration (`counter x { }`), a map's type (`: counter`) or its elements.
_COUNTER = (
    r'(?<!:)(?<!: )\bcounter (?:name (?:"[^"]+"|[^\n;{]*? map @\S+|\w+)|packets \d+ bytes \d+)'
    r"|(?<!:)(?<!: )\bcounter(?= *(?:$|;|\}|accept|drop|return|goto|jump))"
)


def without(pattern: str) -> Callable[[str], str]:
    """Return a change that takes out every match of a regular expression."""
    expression = re.compile(pattern, re.MULTILINE)
    return lambda ruleset: expression.sub("", ruleset)


def without_rules(pattern: str) -> Callable[[str], str]:
    """Return a change that takes out every line that a regular expression is found in."""
    return without(rf"^(?=.*(?:{pattern})).*\n")


# What a user's own firewall does to every packet: conntrack's hooks are in the path from then on.
_USERS_RULE = """
table inet users_firewall {
	chain prerouting {
		type filter hook prerouting priority filter; policy accept;
		ct state invalid drop
	}
}
"""


def ablations() -> list[Ablation]:
    """Return what is taken out of Pointsman's ruleset, the whole ruleset first."""
    return [
        Ablation(WHOLE, lambda ruleset: ruleset),
        Ablation(AGAIN, lambda ruleset: ruleset),
        Ablation("no counters", without(_COUNTER)),
        Ablation("no defragmentation", without_rules(r"\btproxy\b")),
        Ablation("no ICMP error suppression", without_rules(r"^\t\ticmp(?:v6)? type \{.*goto icmp_error")),
        Ablation("no check for the gateway's own packets", without_rules(r'\biif "lo"')),
        Ablation("no check of where replies go", without(r"\bfib daddr type != local ")),
        Ablation("no notrack", without(r"\bnotrack\b *")),
        Ablation("beside a user's ct rule", lambda ruleset: ruleset + _USERS_RULE),
    ]


def recipe_variants() -> list[Contender]:
    """Return the recipe in other builds, so that nobody need wonder which one was beaten."""
    return [
        Recipe("recipe, no DTLS filter", dtls_filter=False),
        Recipe("recipe, legacy", "legacy"),
        Recipe("recipe, legacy, no DTLS filter", "legacy", dtls_filter=False),
    ]
