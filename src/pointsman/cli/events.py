"""`pointsman events`."""

from __future__ import annotations

import time
from datetime import datetime

import click

from pointsman.api.client import Client, DaemonGoneError
from pointsman.api.documents import Event
from pointsman.cli.asking import long_running, printable, the_daemon

RESTART = 60.0
PAUSE = 1.0


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on each line.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events with a higher number.")
def events(*, follow: bool, as_json: bool, after: int) -> None:
    """Show changes of state, repairs and orders, as the daemon remembers them."""
    daemon = the_daemon("events")
    if not follow:
        for event in daemon.events(after):
            _show(event, as_json=as_json)
        return
    _follow(daemon, after, as_json=as_json)


def _follow(daemon: Client, after: int, *, as_json: bool) -> None:
    """Show what happens, also over the daemon's restart, until it stays away."""
    long_running()
    seen = time.monotonic()
    while True:
        try:
            for event in daemon.follow(after):
                _show(event, as_json=as_json)
                after, seen = event.number, time.monotonic()
        except DaemonGoneError:
            if time.monotonic() - seen > RESTART:
                raise
        time.sleep(PAUSE)


def _show(event: Event, *, as_json: bool) -> None:
    click.echo(event.model_dump_json() if as_json else line_of(event))


def line_of(event: Event) -> str:
    """One event on one line, with its time here."""
    at = datetime.fromtimestamp(event.at).astimezone().isoformat(sep=" ", timespec="seconds")
    whose = f"{event.service}/{event.node}" if event.node else event.service
    who = f" (by {event.who})" if event.who else ""
    return printable(" ".join(part for part in (at, event.kind, whose, event.text) if part) + who)
