"""Wait until nothing names a draining node, and show how what does falls."""

from __future__ import annotations

import shutil
import sys
import time

import click

from pointsman.api.client import Client, DaemonGoneError, DaemonRefusedError
from pointsman.api.documents import Drained, Verb
from pointsman.cli.asking import long_running, named_by, printable, spoken
from pointsman.kernel.errors import KernelError

INTERVAL = 1.0
LINES_APART = 60.0
"""Where the output is no terminal, whose one line is written over."""
RESTART = 60.0
"""How long the daemon may be away, as it is when it is restarted, or have trouble of its own."""


def wait_until_quiet(daemon: Client, service: str, node: str, quiet: float, timeout: float) -> None:
    """End when nothing has named the node for ``quiet`` seconds.

    Raise KernelError after ``timeout`` of them, and where the node is not to drain any more.
    """
    long_running()
    line = _Line(f"{service}/{node}")
    try:
        found = _quiet(daemon, line, (service, node), quiet, timeout)
    finally:
        line.end()
    click.echo(f"{service}/{node}: nothing named it for {spoken(found.quiet)}")


def _quiet(daemon: Client, line: _Line, which: tuple[str, str], quiet: float, timeout: float) -> Drained:
    begun = seen = time.monotonic()
    found = first = None
    while True:
        try:
            found = daemon.drained(*which)
        except (DaemonGoneError, DaemonRefusedError) as problem:
            if not may_pass(problem) or time.monotonic() - seen > RESTART:
                raise
        else:
            seen, first = time.monotonic(), first or found
            _must_drain(found)
            line.show(found, first)
            if found.quiet >= quiet:
                return found
        now = time.monotonic()
        if now - begun >= timeout:
            named = "the daemon has not said by what" if not (found and first) else named_by(found, first)
            raise KernelError(f"{'/'.join(which)} is still named after {spoken(timeout)}: {named}")
        time.sleep(min(INTERVAL, max(0.0, timeout - (now - begun))))


def may_pass(problem: DaemonGoneError | DaemonRefusedError) -> bool:
    """Whether it is the daemon's trouble of the moment, and not what was asked."""
    return isinstance(problem, DaemonGoneError) or problem.status >= 500


def _must_drain(found: Drained) -> None:
    order = found.order
    if order is None or order.verb is not Verb.DRAIN:
        now = (
            "its order was taken back"
            if order is None
            else f"{order.verb} was ordered by {printable(order.who)}"
        )
        raise KernelError(f"{found.service}/{found.node} is not draining any more: {now}")


class _Line:
    def __init__(self, which: str) -> None:
        self._which = which
        self._over = sys.stdout.isatty()
        self._shown = -LINES_APART
        self._width = 0

    def show(self, found: Drained, first: Drained) -> None:
        text = f"{self._which} is named by: {named_by(found, first)}"
        if self._over:
            text = text[: shutil.get_terminal_size().columns - 1]  # a longer one could not be written over
            click.echo(f"\r{text:<{self._width}}", nl=False)
            self._width = len(text)
        elif time.monotonic() - self._shown >= LINES_APART:
            click.echo(text)
            self._shown = time.monotonic()

    def end(self) -> None:
        if self._over:
            click.echo()
