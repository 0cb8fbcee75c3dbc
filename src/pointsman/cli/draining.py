"""Wait until nothing names a draining node, and show how what does falls."""

from __future__ import annotations

import shutil
import sys
import time

import click

from pointsman.api.client import Client, DaemonGoneError
from pointsman.api.documents import Drained
from pointsman.cli.asking import long_running, named_by, spoken
from pointsman.kernel.errors import KernelError

INTERVAL = 1.0
LINES_APART = 60.0
"""Where the output is no terminal, whose one line is written over."""
RESTART = 60.0
"""How long the daemon may be away, as it is when it is restarted."""


def wait_until_quiet(daemon: Client, service: str, node: str, quiet: float, timeout: float) -> None:
    """End when nothing has named the node for ``quiet`` seconds; raise KernelError after ``timeout`` of them."""
    long_running()
    begun = time.monotonic()
    first = daemon.drained(service, node)
    line = _Line(f"{service}/{node}")
    found, seen = first, begun
    while found.quiet < quiet:
        line.show(found, first)
        now = time.monotonic()
        if now - begun >= timeout:
            line.end()
            raise KernelError(
                f"{service}/{node} is still named after {spoken(timeout)}: {named_by(found, first)}"
            )
        time.sleep(min(INTERVAL, max(0.0, timeout - (now - begun))))
        try:
            found, seen = daemon.drained(service, node), time.monotonic()
        except DaemonGoneError:
            if time.monotonic() - seen > RESTART:
                line.end()
                raise
    line.show(found, first)
    line.end()
    click.echo(f"{service}/{node}: nothing named it for {spoken(found.quiet)}")


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
