"""``python -m bench``: packet rates. ``python -m bench scale``: the control plane at a thousand services."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from bench import matrix, report, scale
from bench.contenders import POINTSMAN, Contender, ForwardOnly, Pointsman, Recipe, load
from bench.features import AGAIN, WHOLE, ablations, recipe_variants
from bench.libbpf import BpfError
from bench.namespaces import CommandError
from bench.programs import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

_KNOWN: dict[str, Callable[[], Contender]] = {
    "recipe": Recipe,
    "pointsman": Pointsman,
    "forward-only": ForwardOnly,
}


def main() -> int:
    arguments = _arguments()
    # Wide enough for the table where the output is no terminal: a file or a CI log.
    output = Console(width=None if sys.stdout.isatty() else 200)
    if os.geteuid():
        return _fail("the benchmark makes network namespaces: run it as root")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        contenders = [_KNOWN[name]() if name in _KNOWN else load(name) for name in arguments.contender]
        if not POINTSMAN.exists() and (arguments.what == "scale" or "pointsman" in arguments.contender):
            return _fail(f"{POINTSMAN} is missing: install the package into this environment first")
        result = scale.main(output) if arguments.what == "scale" else _rates(arguments, contenders, output)
    except (BpfError, CommandError, ToolMissingError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": report.machine(), **result}, indent=2) + "\n")
    return 0


def _rates(arguments: argparse.Namespace, contenders: list[Contender], output: Console) -> dict[str, Any]:
    # One core for all: what a packet causes is done on the core that sent it, and this keeps it there.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    plan = matrix.quick() if arguments.quick else matrix.full()
    progress = Console(stderr=True, highlight=False)

    def done(cell: matrix.Cell) -> None:
        rates = ", ".join(f"{name} {cell.mpps(name):.2f}" for name in cell.samples)
        progress.print(f"{cell.scenario.name}: {rates} Mpps", soft_wrap=True)

    cells = list(matrix.measure(contenders, plan.rates, done))
    output.print(report.rates(cells))
    output.print(*report.summary(cells, "pointsman"), sep="\n", highlight=False)
    features: list[matrix.Cell] = []
    if any(contender.name == "pointsman" for contender in contenders):
        taken_out = ablations()
        rivals = [*taken_out, *recipe_variants()]
        features = list(matrix.measure(rivals, plan.features, done))
        unchanged = [one.name for one in taken_out if not one.changed and one.name not in (WHOLE, AGAIN)]
        output.print(report.costs(features, unchanged))
    return {
        "cells": [report.as_json(cell) for cell in cells],
        "features": [report.as_json(cell) for cell in features],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("rates", "scale"), default="rates")
    parser.add_argument("--quick", action="store_true", help="a cross-section, in about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there too")
    parser.add_argument(
        "--contender",
        action="append",
        metavar="NAME",
        help=f"one of {', '.join(_KNOWN)}, or MODULE:NAME; may be repeated (default: these three)",
    )
    arguments = parser.parse_args()
    arguments.contender = arguments.contender or list(_KNOWN)
    return arguments


def _terminated(*_: object) -> NoReturn:
    # As an exception, so that the namespaces are removed on the way out.
    raise SystemExit(143)


def _fail(message: str, status: int = 1) -> int:
    Console(stderr=True).print(f"bench: {message}", highlight=False, soft_wrap=True, markup=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
