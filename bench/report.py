"""The tables and the JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.features import WHOLE
from bench.namespaces import CommandError, run
from bench.traffic import Pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.matrix import Cell

RECIPE = "recipe"
CEILING = "forward only"
SUBJECTS = ("pointsman nftables", "pointsman xdp")


def rates(cells: Sequence[Cell]) -> Table:
    """One row for each scenario, one column for each contender."""
    names = _names(cells)
    table = Table(title="Million packets a second on one core (ratio to the recipe)", title_justify="left")
    for heading in ("", "nodes", "traffic"):
        table.add_column(heading, justify="right" if heading == "nodes" else "left", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what went wrong, and conntrack entries")
    before: tuple[int, bool] | None = None
    for cell in cells:
        way = (cell.scenario.family, cell.scenario.reply)
        if before is not None and before[0] != way[0]:
            table.add_section()
        before = way
        table.add_row(
            f"IPv{cell.scenario.family} {'reply' if cell.scenario.reply else 'forward'}",
            str(cell.scenario.nodes),
            cell.scenario.traffic,
            *(_rate(cell, name) for name in names),
            "; ".join(filter(None, (_remark(cell, name) for name in names))),
        )
    return table


def _names(cells: Sequence[Cell]) -> list[str]:
    """Return the contenders that were measured anywhere, in their order."""
    order = list(dict.fromkeys(name for cell in cells for name in (*cell.samples, *cell.unable)))
    return [name for name in order if any(name in cell.samples for cell in cells)]


def planes(cells: Sequence[Cell]) -> Table:
    """One row for each scenario: the last of the data planes beside each of the others."""
    names = _names(cells)
    subject = next((name for name in reversed(SUBJECTS) if name in names), names[0])
    others = [name for name in names if name != subject]
    table = Table(title=f"{subject}: ratio to each of the others, round by round", title_justify="left")
    table.add_column("")
    for name in others:
        table.add_column(f"/ {name}", justify="right")
    for cell in cells:
        ratios = [
            f"{cell.ratio(subject, name):.2f}" if {subject, name} <= cell.samples.keys() else "-"
            for name in others
        ]
        table.add_row(cell.scenario.name, *ratios)
    return table


def unable(cells: Sequence[Cell]) -> list[str]:
    """Say who did not take part where, and why."""
    reasons: dict[tuple[str, str], int] = {}
    for cell in cells:
        for name, why in cell.unable.items():
            reasons[name, why] = reasons.get((name, why), 0) + 1
    return [
        f"left out: {name}, {count} of {len(cells)} cells: {why}" for (name, why), count in reasons.items()
    ]


def _rate(cell: Cell, name: str) -> str:
    if name not in cell.samples:
        return "-"
    rate = f"{cell.mpps(name):.3g}"
    if name == RECIPE or RECIPE not in cell.samples:
        return rate
    ratio = cell.ratio(name, RECIPE)
    return f"{rate} ({ratio:.{2 if ratio < 10 else 0}f})"


def _remark(cell: Cell, name: str) -> str:
    if name not in cell.samples:
        return ""
    sent, sampled = cell.total(name, "sent"), cell.total(name, "sampled")
    said = []
    labels = {"bad": "bad checksums", "moved": "moved to another node"}
    for what, of in (("misrouted", sent), ("dropped", sent), ("bad", sampled), ("moved", sampled)):
        count = cell.total(name, what)
        if count:
            said.append(f"{100 * count / of:.3g} % {labels.get(what, what)}")
    refused = cell.samples[name][-1].refused
    if refused:
        said.append(f"{refused:,} packets of later flows dropped")
    silent = max(sample.silent for sample in cell.samples[name])
    if silent:
        said.append(f"{silent} nodes met nothing")
    entries = cell.samples[name][-1].conntrack
    if entries:
        said.append(f"{entries:,} entries")
    return f"{name}: {', '.join(said)}" if said else ""


def costs(cells: Sequence[Cell], left_out: Sequence[str]) -> Table:
    """One row for each ablation, with what a packet is faster without it."""
    table = Table(title="Nanoseconds a packet (saved without)", title_justify="left")
    table.add_column("ruleset")
    for cell in cells:
        way = "reply" if cell.scenario.reply else "forward"
        table.add_column(f"IPv{cell.scenario.family} {way}", justify="right")
    for name in cells[0].samples:
        if name in left_out:
            continue
        row = []
        for cell in cells:
            saved = cell.nanoseconds_saved(name, WHOLE)
            row.append(f"{1e3 / cell.mpps(name):.0f} ns" + ("" if name == WHOLE else f" ({saved:+.0f})"))
        table.add_row(name, *row)
    return table


def summary(cells: Sequence[Cell], name: str) -> list[str]:
    """Say in words how one contender did beside the recipe, worst cells first."""
    cells = [cell for cell in cells if {RECIPE, name} <= cell.samples.keys()]
    if not cells:
        return []
    worst = min(cells, key=lambda cell: cell.ratio(name, RECIPE))
    lines = [f"{name} / recipe, worst cell: {worst.ratio(name, RECIPE):.2f} ({worst.scenario.name})"]
    burdened = [
        cell for cell in cells if cell.scenario.pattern is Pattern.NEW or cell.scenario.flows > 262_144
    ]
    if burdened:
        worst = min(burdened, key=lambda cell: cell.ratio(name, RECIPE))
        lines.append(
            f"... where flows are new or more than conntrack holds: {worst.ratio(name, RECIPE):.2f} "
            f"({worst.scenario.name})"
        )
    lines += _flatness(cells, name)
    for who in (name, RECIPE):
        wrong = {
            what: sum(cell.total(who, what) for cell in cells)
            for what in ("misrouted", "dropped", "bad", "moved")
        }
        sent = sum(cell.total(who, "sent") for cell in cells)
        lines.append(
            f"{who}: of {sent:,} packets {wrong['misrouted']:,} misrouted, {wrong['dropped']:,} dropped, "
            f"{wrong['bad']:,} bad checksums and {wrong['moved']:,} moved flows in the sample"
        )
    return lines


def _flatness(cells: Sequence[Cell], name: str) -> list[str]:
    """Say what more nodes cost, measured by plain routing in the same rounds: that takes the machine's moods out."""
    if any(CEILING not in cell.samples for cell in cells):
        return []
    few, many = min(cell.scenario.nodes for cell in cells), max(cell.scenario.nodes for cell in cells)
    at = {cell.scenario: cell.ratio(name, CEILING) for cell in cells}
    changes = [
        at[replace(one, nodes=many)] / at[one]
        for one in at
        if one.nodes == few and replace(one, nodes=many) in at
    ]
    if few == many or not changes:
        return []
    return [f"{name}, {many} nodes / {few} nodes, median: {statistics.median(changes):.2f}"]


def machine() -> dict[str, str]:
    """Return what a reader needs to judge the figures by."""
    result = {"kernel": platform.release(), "machine": platform.machine(), "cpus": str(os.cpu_count())}
    for tool in ("nft", "iptables", "clang"):
        try:
            result[tool] = run([tool, "--version"]).splitlines()[0]
        except (CommandError, OSError, IndexError):
            result[tool] = "missing"
    return result


def as_json(cell: Cell) -> dict[str, Any]:
    """Return a cell with all its rounds."""
    scenario = cell.scenario
    return {
        "family": scenario.family,
        "direction": "reply" if scenario.reply else "forward",
        "nodes": scenario.nodes,
        "flows": scenario.flows,
        "pattern": scenario.pattern.name.lower(),
        "kind": scenario.kind.name.lower(),
        "services": scenario.services,
        "left_out": cell.unable,
        "contenders": {
            name: {
                "mpps": round(cell.mpps(name), 4),
                "ratio": round(cell.ratio(name, RECIPE), 3) if RECIPE in cell.samples else None,
                **{
                    what: cell.total(name, what)
                    for what in ("sent", "delivered", "misrouted", "dropped", "sampled", "bad", "moved")
                },
                "conntrack": samples[-1].conntrack,
                "rounds": [{**asdict(sample), "mpps": round(sample.mpps, 4)} for sample in samples],
            }
            for name, samples in cell.samples.items()
        },
    }
