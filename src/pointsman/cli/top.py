"""`pointsman top`: nodes and their rates, live, and orders by a key."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from rich.console import Console
from rich.live import Live

from pointsman.api.client import Client, DaemonGoneError, DaemonRefusedError
from pointsman.api.documents import OrderRequest
from pointsman.cli.asking import long_running, the_daemon
from pointsman.cli.top_view import View, Wanted, drawn, pressed
from pointsman.kernel.errors import KernelError

INTERVAL = 1.0
REASON = "by a key in pointsman top"


@click.command()
def top() -> None:
    """Show nodes and their rates live; keys sort, select, drain and enable."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise KernelError("top needs a terminal; `pointsman status --json` is for programs")
    daemon = the_daemon("top")
    console = Console()
    with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as live:
        _run(daemon, console, live)


def _run(daemon: Client, console: Console, live: Live) -> None:
    long_running()
    view, status, asked = View(), daemon.status(), time.monotonic()
    while not view.ended:
        live.update(drawn(view, status, time.time(), console.height), refresh=True)
        key = _key(max(0.0, asked + INTERVAL - time.monotonic()))
        if key:
            view, wanted = pressed(view, key, status)
            if wanted is not None:
                view = replace(view, said=_given(daemon, wanted))
        if time.monotonic() - asked >= INTERVAL or (key and view.said):
            asked = time.monotonic()
            try:
                status = daemon.status()
            except DaemonGoneError as gone:
                view = replace(view, said=str(gone))


def _given(daemon: Client, wanted: Wanted) -> str:
    try:
        order = daemon.order(wanted.service, wanted.node, OrderRequest(verb=wanted.verb, reason=REASON))
    except (DaemonRefusedError, DaemonGoneError) as refusal:
        return str(refusal).replace("\n", "; ")
    return f"{order.verb} {wanted.service}/{wanted.node}: done"


def _key(seconds: float) -> str:
    """The next key, or "" where none is pressed for so long; an arrow is its whole sequence."""
    descriptor = sys.stdin.fileno()
    if not select.select([descriptor], [], [], seconds)[0]:
        return ""
    read = os.read(descriptor, 8).decode(errors="replace")
    return read if read.startswith("\x1b") else read[:1] or "q"


@contextmanager
def _keys_at_once() -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
