"""How the demo is shown: on a terminal a picture that changes, elsewhere plain lines; at the end one table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pointsman.lab.demo_claims import Claim, Figures
from pointsman.lab.demo_scenes import TITLES

_BAR: Final = 30
_CROWD: Final = "120 DTLS sessions behind 2 NATs, half over IPv4 and half over IPv6, on 3 nodes"
_BROKEN: Final = "Requests are tried 3 times in 1.5 s; one without an answer breaks its session."
_EVERY: Final = 3.0  # seconds between plain lines of one scene


class Plain:
    """A line for each scene, and one every few seconds while it lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def scene(self, number: int) -> None:
        self._say(f"{number + 1}/{len(TITLES)} {TITLES[number]}")

    def show(self, figures: Figures) -> None:
        if time.monotonic() - self._said >= _EVERY:
            self._say("    " + "; ".join([_requests(figures), _changes(figures), *_controls(figures)]))

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(f"{self._said - self._began:5.1f} s  {text}", soft_wrap=True, highlight=False)


class Lively:
    """All scenes and figures at once, drawn anew as they change."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._began = time.monotonic()
        self._scene = -1
        self._figures = Figures()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, at)

    def scene(self, number: int) -> None:
        self._scene = number
        self._draw()

    def show(self, figures: Figures) -> None:
        self._figures = figures
        self._draw()

    def _draw(self) -> None:
        elapsed = time.monotonic() - self._began
        self._live.update(picture(self._scene, self._figures, elapsed), refresh=True)


def picture(scene: int, figures: Figures, elapsed: float) -> RenderableType:
    """What the screen shows in a scene."""
    heading = Text(f"Pointsman demo: DTLS sessions and their connection IDs   {elapsed:3.0f} s", style="bold")
    course = Table.grid(padding=(0, 1))
    for number, title in enumerate(TITLES):
        mark, style = ("✓", "green") if number < scene else ("▸", "bold") if number == scene else (" ", "dim")
        course.add_row(Text(f" {mark}", style=style), Text(title, style=style))
    board = Table.grid(padding=(0, 2))
    most = max(1, *figures.nodes.values())
    for node, count in figures.nodes.items():
        bar = Text("█" * round(_BAR * count / most), style="cyan")
        note = "  draining" if node == figures.draining else ""
        board.add_row(f" sessions on {node}", Text.assemble(f"{count:4} ", bar, (note, "yellow")))
    board.add_row(" requests", Text(_requests(figures), style="red" if figures.lost else ""))
    board.add_row(" addresses", _changes(figures))
    for name, (sessions, broken) in figures.controls.items():
        board.add_row(f" control: {name}", f"{broken:4} of {sessions} sessions broken")
    return Group(heading, "", course, "", board)


def conclusion(claims: Sequence[Claim], plane: str, elapsed: float) -> RenderableType:
    """One table, and the verdict in a line."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("claim", "measured", "expected"):
        table.add_column(heading, no_wrap=True)
    for claim in claims:
        if claim.control and not any(each.control for each in claims[: claims.index(claim)]):
            table.add_row(Text("Controls, which must fail:", style="dim"), "", "")
        mark = Text("yes", style="green") if claim.as_expected else Text("NO", style="bold red")
        what = f"  {claim.what}" if claim.control else claim.what
        table.add_row(what, Text("\n".join(claim.measured)), mark)
    return Group(Text(_CROWD), table, Text(_BROKEN, style="dim"), verdict(claims, plane, elapsed))


def verdict(claims: Sequence[Claim], plane: str, elapsed: float) -> Text:
    failed = [claim.what for claim in claims if not claim.as_expected]
    if failed:
        return Text(f"NOT as expected ({plane}, {elapsed:.0f} s): {'; '.join(failed)}", style="bold red")
    held = sum(not claim.control for claim in claims)
    return Text(
        f"All {held} claims hold, and both controls fail as they must ({plane}, {elapsed:.0f} s).",
        style="bold green",
    )


def _requests(figures: Figures) -> str:
    under_way = figures.requests - figures.answered - figures.lost
    return f"{figures.answered:,} answered, {under_way} under way, {figures.repeated} repeated, {figures.lost} lost"


def _changes(figures: Figures) -> str:
    return f"{figures.remaps} NAT remaps, {figures.rebinds} rounds of new source ports"


def _controls(figures: Figures) -> list[str]:
    return [f"{name}: {broken} of {all_} broken" for name, (all_, broken) in figures.controls.items()]
