"""`pointsman top`: nodes and their rates, live, and orders by a key."""

from __future__ import annotations

import json
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
from pointsman.cli.draining import RESTART, may_pass
from pointsman.cli.status_of_daemon import document
from pointsman.cli.top_view import View, Wanted, drawn, pressed
from pointsman.kernel.errors import KernelError

INTERVAL = 1.0
REASON = "by a key in pointsman top"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what status --json has, on a line every second.")
def top(*, as_json: bool) -> None:
    """Show nodes and their rates live; keys sort, select, drain and enable."""
    if as_json:
        _print(the_daemon("top"))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise KernelError("top needs a terminal; `pointsman top --json` is for programs")
    daemon = the_daemon("top")
    console = Console()
    with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as live:
        _run(daemon, console, live)


def _print(daemon: Client) -> None:
    """Print the status again and again, also over the daemon's restart, until it stays away."""
    long_running()
    seen = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            found = document(daemon.status(), daemon.orders())
        except (DaemonGoneError, DaemonRefusedError) as problem:
            if not may_pass(problem) or time.monotonic() - seen > RESTART:
                raise
        else:
            seen = time.monotonic()
            click.echo(json.dumps(found))
        time.sleep(max(0.0, asked + INTERVAL - time.monotonic()))


def _run(daemon: Client, console: Console, live: Live) -> None:
    long_running()
    view, status, asked = View(), daemon.status(), time.monotonic()
    trouble = ""
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
            except (DaemonGoneError, DaemonRefusedError) as problem:
                trouble = str(problem).replace("\n", "; ")
                view = replace(view, said=trouble)
            else:
                view = replace(view, said="" if view.said == trouble else view.said)


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
