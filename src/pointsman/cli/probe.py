"""`pointsman probe FILE [SERVICE[/NODE]]`."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from pointsman.cli.common import file_argument, show_warnings
from pointsman.config import load
from pointsman.health.at_node import PROBE
from pointsman.health.engine import Change, Engine
from pointsman.health.once import Tried, once
from pointsman.model import Gateway


@click.command()
@file_argument
@click.argument("which", required=False, metavar="[SERVICE[/NODE]]")
@click.option("--watch", is_flag=True, help="Go on at the checks' intervals, and say what changes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def probe(file: Path, which: str | None, *, watch: bool, as_json: bool) -> None:
    """Run the checks of FILE once, from this machine, and tell how each went; change nothing."""
    loaded = load(file)
    show_warnings(loaded)
    gateway = _only(loaded.gateway, which)
    if not any(service.checks for service in gateway.services):
        raise click.UsageError(f"{which or file} has no checks; [[service.check]] in the file")
    if watch:
        asyncio.run(_watch(gateway, as_json=as_json))
        return
    tried = asyncio.run(once(gateway))
    width = max(len(f"{one.service}/{one.node}") for one in tried)
    for one in tried:
        click.echo(json.dumps(_as_json(one)) if as_json else _line(one, width))
    if not all(one.outcome.ok for one in tried):
        raise click.exceptions.Exit(1)


def _only(gateway: Gateway, which: str | None) -> Gateway:
    """The gateway with what is asked for alone."""
    if which is None:
        return gateway
    name, slash, node_name = which.partition("/")
    service = gateway.service(name)
    if service is None:
        known = ", ".join(one.name for one in gateway.services)
        raise click.UsageError(f"no service {name!r} in the file; one of {known}")
    if slash:
        node = service.node(node_name)
        if node is None:
            known = ", ".join(one.name for one in service.nodes)
            raise click.UsageError(f"no node {node_name!r} in service {name}; one of {known}")
        service = replace(service, nodes=(node,))
    return replace(gateway, services=(service,))


def _line(one: Tried, width: int) -> str:
    word = {True: "ok", False: "failed", None: "untried"}[one.outcome.ok]
    took = f"{one.seconds * 1000:.1f} ms"
    where = f"{one.service}/{one.node}".ljust(width)
    return f"{where}  {word:7}  {one.target.check.kind:6}  {one.words:24}  {took:>9}  {one.outcome.said}"


def _as_json(one: Tried) -> dict[str, object]:
    return {
        "service": one.service,
        "node": one.node,
        "kind": one.target.check.kind,
        "target": one.words,
        "ok": one.outcome.ok,
        "said": one.outcome.said,
        "latency": one.seconds,
    }


async def _watch(gateway: Gateway, *, as_json: bool) -> None:
    """Raise OSError where nothing can be written any more."""
    unwritten = asyncio.get_running_loop().create_future()

    def told(change: Change) -> None:
        try:
            show(change)
        except OSError as problem:
            if not unwritten.done():
                unwritten.set_exception(problem)

    def show(change: Change) -> None:
        if as_json:
            shown = {
                "service": change.service,
                "node": change.node,
                "healthy": change.healthy,
                "reason": change.reason,
                "at": change.at,
            }
            click.echo(json.dumps(shown))
        else:
            word = "healthy" if change.healthy else "unhealthy"
            click.echo(f"{change.service}/{change.node}: {word} ({change.reason})")

    engine = Engine(told, lane=PROBE)
    engine.want(gateway)
    running = asyncio.create_task(engine.run())
    try:
        await asyncio.wait((running, unwritten), return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    await unwritten
