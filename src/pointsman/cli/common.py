"""What several verbs share: arguments, and how findings are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from pointsman.config import Loaded
from pointsman.kernel.errors import KernelError
from pointsman.kernel.nft import Nft
from pointsman.model import DataPlaneChoice, Gateway
from pointsman.plan.describe import describe
from pointsman.plan.findings import Finding, fatal, find
from pointsman.reconcile.apply import Proposal
from pointsman.reconcile.surroundings import look_around

Command = TypeVar("Command", bound=Callable[..., Any])


def file_argument(function: Command) -> Command:
    return click.argument("file", type=click.Path(path_type=Path))(function)


def show_warnings(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        click.echo(f"warning: {warning.render(loaded.filename)}", err=True)


def show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        click.echo(f"{'error' if finding.fatal else 'warning'}: {finding.text}", err=True)


def findings_here(gateway: Gateway, nft: Nft) -> list[Finding]:
    """Findings on this machine; without root those about other people's rules are missing, and that is said."""
    try:
        return find(gateway, look_around(gateway, nft))
    except KernelError as problem:
        found = find(gateway, look_around(gateway, None))
        return [*found, Finding(f"other people's forward chains were not looked at: {problem}")]


def refuse_fatal(findings: list[Finding]) -> None:
    """End with one line for each where something keeps the configuration from being applied."""
    stopping = fatal(findings)
    if stopping:
        show_findings(stopping)
        raise click.exceptions.Exit(2)


def described(proposal: Proposal) -> list[str]:
    """What carrying the proposal out changes, in words."""
    return describe(
        proposal.have, proposal.want, proposal.host, facts=proposal.facts, carried=proposal.state.addresses
    )


def dataplane_reason(choice: DataPlaneChoice) -> str:
    """Which data plane the choice comes to, and why."""
    if choice is DataPlaneChoice.AUTO:
        return "nftables (auto: the only data plane of this version)"
    return f"{choice} (as configured)"
