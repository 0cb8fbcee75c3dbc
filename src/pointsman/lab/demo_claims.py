"""What the demo claims: figures in, claims out. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

NODES: Final = ("n1", "n2", "n3")
DRAINED: Final = "n2"


@dataclass(frozen=True, slots=True)
class Claim:
    """Something said, what was measured of it (a line each), and whether that is as it must be.

    A control is something that must not work, or else the other claims would mean nothing.
    """

    what: str
    measured: tuple[str, ...]
    as_expected: bool
    control: bool = False


@dataclass(slots=True)
class Figures:
    """What there is to see while the demo works; ``controls`` holds (sessions, broken ones)."""

    nodes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 0))
    draining: str = ""
    requests: int = 0
    answered: int = 0
    repeated: int = 0
    lost: int = 0
    remaps: int = 0
    rebinds: int = 0
    controls: dict[str, tuple[int, int]] = field(default_factory=dict)


def share(sessions: int, nodes: int) -> tuple[int, int]:
    """What a node may get of so many sessions spread by chance: four standard deviations about the mean."""
    spread = 4 * math.sqrt(sessions * (nodes - 1)) / nodes
    return max(0, math.ceil(sessions / nodes - spread)), math.floor(sessions / nodes + spread)


def spread(got: Mapping[str, int], sessions: int) -> Claim:
    least, most = share(sessions, len(got))
    each = ", ".join(f"{node} {count}" for node, count in got.items())
    return Claim(
        "Handshakes spread over the nodes",
        (f"{each} ({least} to {most} each)",),
        sum(got.values()) == sessions and all(least <= count <= most for count in got.values()),
    )


def survival(
    figures: Figures, end: Mapping[str, int], *, sessions: int, broken: int, moved: int, new: int, turns: int
) -> Claim:
    """``end`` is the clients' summary; ``moved`` and ``new`` are address changes and handshakes at the nodes."""
    return Claim(
        "Sessions survive address changes",
        (
            f"{figures.remaps} NAT remaps, {figures.rebinds} rounds of new ports",
            f"{moved:,} moves seen, {new} new handshakes",
            f"{end['answered']:,} of {end['requests']:,} requests answered",
            f"by the same node, with {end['retries']} repeats",
        ),
        end["answered"] == end["requests"] > 0
        and broken == end["wrong"] == end["lost"] == end["closed"] == new == 0
        and end["handshakes_ok"] == sessions
        and moved >= turns * sessions,
    )


def living(sessions: int, *, answered: int, harmed: int, moved: int) -> Claim:
    """The sessions of the drained node: ``answered`` and ``moved`` as it counted while draining."""
    return Claim(
        f"{DRAINED} drained: its sessions live on",
        (
            f"{sessions} sessions: {answered:,} more answers,",
            f"{moved:,} moves, {harmed} sessions harmed",
        ),
        answered >= sessions > 0 and moved >= sessions and harmed == 0,
    )


def elsewhere(draining: Mapping[str, int], new: int, enabled: Mapping[str, int]) -> Claim:
    """Newcomers by node, while the node is draining and after; ``new`` is what it counted itself."""
    before, after = sum(draining.values()), sum(enabled.values())
    least, most = share(after, len(enabled))
    return Claim(
        f"{DRAINED} drained: new ones elsewhere",
        (
            f"{draining[DRAINED]} of {before} new sessions came to {DRAINED},",
            f"{enabled[DRAINED]} of {after} once enabled ({least} to {most})",
        ),
        new == draining[DRAINED] == 0 < before and least <= enabled[DRAINED] <= most,
    )


def unknown(sent: int, counted: int, reached: int) -> Claim:
    return Claim(
        "Unknown node ids are dropped",
        (f"{sent:,} sent, {counted:,} counted, {reached} arrived",),
        counted == sent > 0 == reached,
    )


def untracked(dtls: Sequence[str], others: Sequence[str], expected: int) -> Claim:
    """Entries of DTLS, and of the plain datagrams that show that tracking is on."""
    return Claim(
        "DTLS leaves no conntrack entry",
        (
            f"{len(dtls)} beside a foreign masquerade rule",
            f"({len(others)} of {expected} plain datagrams have one)",
        ),
        not dtls and len(others) == expected,
    )


def checksums(wrong: Mapping[str, int]) -> Claim:
    return Claim("Checksums are right everywhere", (f"{sum(wrong.values())} errors",), not wrong)


def control(what: str, *, sessions: int, broken_before: int, broken: int, end: Mapping[str, int]) -> Claim:
    """Most sessions must break; one is broken when a request had no good answer in all its tries."""
    lost = end["lost"] + end["wrong"]
    return Claim(
        what,
        (
            f"{broken} of {sessions} sessions broke",
            f"({lost:,} of {end['requests']:,} requests unanswered)",
        ),
        broken_before == 0 and 2 * broken > sessions,
        control=True,
    )
