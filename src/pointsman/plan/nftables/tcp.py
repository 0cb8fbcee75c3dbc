"""What TCP adds to a listener's chains: connections that begin, and that end.

A connection whose client has sent a FIN or a RST is moved to a second map, ``closing``, where it is kept for a minute
at most whatever follows. Only segments of which no flow is found in the first one are looked up there.
"""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.plan.nftables.expressions import FamilyWords

OPENS = "tcp flags & (syn | ack) == syn"
CLOSES = "tcp flags & (fin | rst) != 0"
NO_RESET = "tcp flags & rst == 0"

CLOSING_SECONDS = 60


def update(flows: str, key: str, seconds: int, label: str) -> str:
    return f"update @{flows} {{ {key} timeout {seconds}s : {label} }}"


def delete(flows: str, key: str, label: str) -> str:
    return f"delete @{flows} {{ {key} : {label} }}"


def _kept(seconds: int) -> int:
    return min(seconds, CLOSING_SECONDS)


def close(flows: str, closing: str, key: str, seconds: int, words: FamilyWords) -> str:
    """Move a flow to ``closing``. Where that is full, the update ends the rule and the flow stays."""
    moved = f"{update(closing, key, _kept(seconds), words.label)} {delete(flows, key, words.label)}"
    return f"{CLOSES} {moved} return"


def touch_closing(closing: str, key: str, seconds: int, words: FamilyWords, touch: str) -> Iterator[str]:
    """Keep a closing flow for a little longer, or take it back where its port is used again."""
    yield f"{OPENS} {delete(closing, key, words.label)} goto {touch}"
    yield update(closing, key, _kept(seconds), words.label)
