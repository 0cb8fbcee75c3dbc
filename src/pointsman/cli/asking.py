"""What the verbs share that ask a running daemon."""

from __future__ import annotations

import gc
import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from pointsman.api.client import Client, daemon_here
from pointsman.api.documents import Applied, Drained, Status
from pointsman.api.place import socket_to_ask
from pointsman.kernel.errors import KernelError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """``90s``, ``5m``, ``2h``, ``1d``, in seconds."""

    name = "duration"

    def __init__(self, most: str = "365d") -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        seconds = _seconds(value)
        if not 1 <= seconds <= _seconds(self._most):
            self.fail(f"{value!r} is no duration; 90s, 5m, 2h, up to {self._most}", param, ctx)
        return float(seconds)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def spoken(seconds: float) -> str:
    """A duration in its largest unit that says most of it: ``45 s``, ``15 min``, ``2 h``, ``3 d``."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def the_daemon(needed_for: str = "this") -> Client:
    """The daemon; raises KernelError where none answers."""
    found = daemon_here()
    if found is None:
        raise KernelError(f"{needed_for} needs a running daemon, and none answers at {socket_to_ask()}")
    return found


def long_running() -> None:
    """Look for cycles again, which commands that end soon leave to their end."""
    gc.enable()


def service_and_node(which: str) -> tuple[str, str]:
    """The two names of SERVICE/NODE."""
    service, slash, node = which.partition("/")
    if not (service and slash and node) or "/" in node:
        raise click.UsageError(f"{which!r} is no SERVICE/NODE; as coaps/n1")
    return service, node


def show_applied(applied: Applied) -> None:
    for warning in applied.warnings:
        click.echo(f"warning: {warning}", err=True)
    for line in applied.changes or ["nothing to change"]:
        click.echo(line)
    if applied.number is not None:
        click.echo(f"applied; number {applied.number} in the history")


def printable(text: str) -> str:
    """Text on one line, without anything that a terminal would act on: reasons and answers are others' words."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def named_by(found: Drained, first: Drained) -> str:
    """What still names the node, and what did at first."""
    parts = [
        _falling("connection IDs", f"{found.cid_per_second:.1f}/s", f"{first.cid_per_second:.1f}/s"),
        _falling("flows' packets", f"{found.flow_per_second:.1f}/s", f"{first.flow_per_second:.1f}/s"),
    ]
    if found.flows is not None:
        parts.append(_falling("flows", str(found.flows), str(first.flows)))
    if found.devices is not None:
        parts.append(f"devices about {found.devices}")
    return f"{', '.join(parts)}; quiet for {spoken(found.quiet)}"


def _falling(what: str, now: str, at_first: str) -> str:
    return f"{what} {now}" + (f" ({at_first} at first)" if now != at_first else "")


def _status() -> Status | None:
    try:
        daemon = daemon_here()
        return None if daemon is None else daemon.status()
    except KernelError:
        return None  # a shell that completes has no place for the reason


def complete_node(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """SERVICE/NODE as the daemon has them."""
    status = _status()
    names = (
        [f"{service.name}/{node.name}" for service in status.services for node in service.nodes]
        if status
        else []
    )
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_service(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """SERVICE as the daemon has them."""
    status = _status()
    names = [service.name for service in status.services] if status else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
