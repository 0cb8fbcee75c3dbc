"""Packet rates, and what they are made of.

``rates`` (the default): the nftables plane beside the recipe; ``xdp``: both planes, the recipe and the rig's
ceiling; ``cost``: what the XDP program takes for a packet; ``filter``: what a packet takes that a filter drops;
``tcp``: wrk and nginx through balancers of all kinds; ``dsr``: what the gateway carries of large answers;
``memory``: what its maps take; ``scale``: the control plane at a thousand services; ``health``: what checks take.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from bench import cost, drops, dsr, health, matrix, memory, report, scale, tcp
from bench.contenders import POINTSMAN, Ceiling, Contender, ForwardOnly, Ipvs, Pointsman, Recipe, load
from bench.features import AGAIN, WHOLE, ablations, recipe_variants
from bench.libbpf import BpfError
from bench.namespaces import CommandError
from bench.programs import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

_KNOWN: dict[str, Callable[[], Contender]] = {
    "recipe": Recipe,
    "recipe-random": lambda: Recipe("recipe, by chance", by_chance=True),
    "pointsman": Pointsman,
    "pointsman-nftables": Pointsman,
    "pointsman-xdp": lambda: Pointsman("xdp"),
    "pointsman-random": lambda: Pointsman("nftables", "random"),
    "pointsman-round-robin": lambda: Pointsman("nftables", "round-robin"),
    "forward-only": ForwardOnly,
    "ceiling": Ceiling,
    "ipvs": Ipvs,
}
_DEFAULT = {
    "rates": ["recipe", "pointsman-nftables", "forward-only"],
    "xdp": ["recipe", "ipvs", "pointsman-nftables", "pointsman-xdp", "ceiling"],
    "cost": ["pointsman-xdp"],
    "memory": ["pointsman-xdp"],
    "scale": [],
    "filter": [],
    "tcp": [],
    "dsr": [],
    "health": [],
}
_WITH_OWN = ("scale", "filter", "tcp", "dsr", "health")  # which bring contenders of their own
_NO_CELL = "no contender can take part in any cell, or --only matches none"


def main() -> int:
    arguments = _arguments()
    # Wide enough for the table where the output is no terminal: a file or a CI log.
    output = Console(width=None if sys.stdout.isatty() else 200)
    if os.geteuid():
        return _fail("the benchmark makes network namespaces: run it as root")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        contenders = [_KNOWN[name]() if name in _KNOWN else load(name) for name in arguments.contender]
        needed = arguments.what in _WITH_OWN or any(isinstance(one, Pointsman) for one in contenders)
        if needed and not POINTSMAN.exists():
            return _fail(f"{POINTSMAN} is missing: install the package into this environment first")
        result = _run(arguments, contenders, output)
    except (BpfError, CommandError, ToolMissingError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": report.machine(), **result}, indent=2) + "\n")
    return 0


def _run(arguments: argparse.Namespace, contenders: list[Contender], output: Console) -> dict[str, Any]:
    if arguments.what == "scale":
        return scale.main(output)
    if arguments.what == "health":
        return health.main(output, quick=arguments.quick)
    if arguments.what == "memory":
        return memory.main(contenders[0], output)
    # One core for all: what a packet causes is done on the core that sent it, and this keeps it there.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if arguments.what == "filter":
        return drops.main(output, quick=arguments.quick)
    if arguments.what == "tcp":
        return tcp.main(output, quick=arguments.quick)
    if arguments.what == "dsr":
        return dsr.main(output, quick=arguments.quick)
    if arguments.what == "cost":
        return cost.main(contenders[0], output, rounds=5 if arguments.quick else 15)
    if arguments.what == "xdp":
        return _xdp(contenders, output, quick=arguments.quick, only=arguments.only)
    return _rates(contenders, output, quick=arguments.quick, only=arguments.only)


def _done(cell: matrix.Cell) -> None:
    rates = ", ".join(f"{name} {cell.mpps(name):.3g}" for name in cell.samples)
    progress = Console(stderr=True, highlight=False)
    progress.print(f"{cell.scenario.name}: {rates} Mpps", soft_wrap=True)


def _print(output: Console, lines: list[str]) -> None:
    for line in lines:
        output.print(line, highlight=False, markup=False, soft_wrap=True)


def _xdp(contenders: list[Contender], output: Console, *, quick: bool, only: str) -> dict[str, Any]:
    cells = list(matrix.measure(contenders, matrix.xdp(quick=quick).only(only), _done))
    if not cells:
        raise CommandError(_NO_CELL)
    output.print(report.rates(cells))
    output.print(report.planes(cells))
    _print(output, report.unable(cells))
    for name in report.SUBJECTS:
        _print(output, report.summary(cells, name))
    return {"cells": [report.as_json(cell) for cell in cells]}


def _rates(contenders: list[Contender], output: Console, *, quick: bool, only: str) -> dict[str, Any]:
    plan = matrix.quick() if quick else matrix.full()
    cells = list(matrix.measure(contenders, plan.rates.only(only), _done))
    if not cells:
        raise CommandError(_NO_CELL)
    output.print(report.rates(cells))
    _print(output, report.unable(cells))
    name = report.SUBJECTS[0]
    _print(output, report.summary(cells, name))
    features: list[matrix.Cell] = []
    if any(contender.name == name for contender in contenders):
        taken_out = ablations()
        rivals = [*taken_out, *recipe_variants()]
        features = list(matrix.measure(rivals, plan.features, _done))
        unchanged = [one.name for one in taken_out if not one.changed and one.name not in (WHOLE, AGAIN)]
        output.print(report.costs(features, unchanged))
    return {
        "cells": [report.as_json(cell) for cell in cells],
        "features": [report.as_json(cell) for cell in features],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=tuple(_DEFAULT), default="rates")
    parser.add_argument("--quick", action="store_true", help="a cross-section, in about a minute")
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="cells of rates and xdp whose names match, as printed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there too")
    parser.add_argument(
        "--contender",
        action="append",
        metavar="NAME",
        help=f"one of {', '.join(_KNOWN)}, or MODULE:NAME; may be repeated, but for cost and memory",
    )
    arguments = parser.parse_args()
    if arguments.what in ("cost", "memory") and len(arguments.contender or ()) > 1:
        parser.error(f"{arguments.what} looks at one contender at a time")
    if arguments.only != "*" and arguments.what not in ("rates", "xdp"):
        parser.error(f"{arguments.what} has no cells to choose from with --only")
    arguments.contender = arguments.contender or _DEFAULT[arguments.what]
    return arguments


def _terminated(*_: object) -> NoReturn:
    # As an exception, so that the namespaces are removed on the way out.
    raise SystemExit(143)


def _fail(message: str, status: int = 1) -> int:
    Console(stderr=True).print(f"bench: {message}", highlight=False, soft_wrap=True, markup=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
