"""Sentences of the daemon's events and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from pointsman.api import documents as api
from pointsman.api.operator import RefusedError
from pointsman.config import ConfigError
from pointsman.daemon.events import Kind
from pointsman.kernel.errors import KernelError
from pointsman.plan.replaced import ReplacementError
from pointsman.reconcile.prepare import FatalFindingsError

Result = TypeVar("Result")

log = structlog.get_logger("pointsman")

TROUBLE = (ConfigError, FatalFindingsError, KernelError, ReplacementError)
"""What may keep a change from being made; the daemon outlives all of it."""


def explained(call: Callable[[], Result]) -> Result:
    """The call's result; a machine without room or descriptors is a KernelError as well."""
    try:
        return call()
    except OSError as problem:
        about = f" ({problem.filename})" if problem.filename else ""
        raise KernelError(f"{problem.strerror or problem}{about}") from problem


def line(problem: Exception) -> str:
    lines = str(problem).splitlines() or [type(problem).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} (and {len(lines) - 1} more)"


def few(lines: Sequence[str], most: int = 3) -> str:
    rest = len(lines) - most
    return "; ".join(lines[:most]) + (f"; and {rest} more" if rest > 0 else "")


def refused(problem: Exception) -> RefusedError:
    lines = tuple(str(problem).splitlines())
    status = 422 if isinstance(problem, ConfigError | FatalFindingsError | ReplacementError) else 500
    return RefusedError(line(problem), status=status, errors=lines if len(lines) > 1 else ())


@contextmanager
def refusing() -> Iterator[None]:
    """Tell whoever asked what kept it from being done: RefusedError for any trouble."""
    try:
        yield
    except TROUBLE as problem:
        raise refused(problem) from None


def tell(event: api.Event) -> None:
    """Have an event in the log, too."""
    warns = event.kind in (Kind.REFUSED, Kind.FAILED, Kind.REPAIRED, Kind.ROLLED_BACK)
    say = log.warning if warns else log.info
    about = {"service": event.service, "node": event.node, "who": event.who}
    say(event.text, kind=event.kind, **{key: value for key, value in about.items() if value})
