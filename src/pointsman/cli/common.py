"""What several verbs share: arguments, and how findings are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from pointsman.config import Loaded
from pointsman.kernel.errors import KernelError
from pointsman.plan.choice import Choice
from pointsman.plan.findings import Finding, fatal
from pointsman.reconcile.apply import Wish
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import FatalFindingsError, Prepared, prepare
from pointsman.reconcile.state import StateFile

Command = TypeVar("Command", bound=Callable[..., Any])


def file_argument(function: Command) -> Command:
    return click.argument("file", type=click.Path(path_type=Path))(function)


def show_warnings(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        click.echo(f"warning: {warning.render(loaded.filename)}", err=True)


def show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        click.echo(f"{'error' if finding.fatal else 'warning'}: {finding.text}", err=True)


def refuse_choice(choice: Choice) -> None:
    """End with one line where the file asks for a plane that this machine has not."""
    if choice.refusal is not None:
        raise KernelError(choice.refusal)


def prepared(planes: Planes, state_file: StateFile, loaded: Loaded, wish: Wish | None = None) -> Prepared:
    """Plan the way to a file; end with one line for each thing that stands in it."""
    try:
        return prepare(planes, state_file, loaded, wish)
    except FatalFindingsError as stopping:
        show_findings(stopping.findings)
        raise click.exceptions.Exit(2) from None


def refuse_fatal(findings: list[Finding]) -> None:
    """End with one line for each where something keeps the configuration from being applied."""
    stopping = fatal(findings)
    if stopping:
        show_findings(stopping)
        raise click.exceptions.Exit(2)
