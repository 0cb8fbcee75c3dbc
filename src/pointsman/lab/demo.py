"""``python -m pointsman.lab.demo``: real DTLS sessions through a gateway, while everything changes around them.

Exit status: 0 if all is as claimed, 1 if not, 2 if the demo could not be run, 130 if it was interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from pointsman.lab.build import Lab, take_down
from pointsman.lab.demo_claims import NODES, Claim
from pointsman.lab.demo_scenes import Scenes
from pointsman.lab.demo_site import Site
from pointsman.lab.demo_view import Lively, Plain, conclusion
from pointsman.lab.errors import LabError
from pointsman.lab.topology import Topology

NOT_AS_CLAIMED = 1
NOT_RUN = 2
INTERRUPTED = 130
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option(
    "--peer", type=click.Path(path_type=Path), required=True, help="The DTLS peer, built by `make peers`."
)
@click.option(
    "--dataplane", type=click.Choice(["nftables", "xdp", "auto"]), default="nftables", show_default=True
)
@click.option("--plain", is_flag=True, help="Print lines, also on a terminal.")
@click.option("--keep", is_flag=True, help="Leave the lab up afterwards, to look around in it.")
@click.option(
    "--seconds",
    type=click.FloatRange(4, 600),
    default=20.0,
    show_default=True,
    help="How long addresses keep changing, the longest scene.",
)
def demo(peer: Path, dataplane: str, *, plain: bool, keep: bool, seconds: float) -> None:
    """Show DTLS sessions that keep their node by connection ID, on real peers behind real NATs."""
    console = Console(highlight=False)
    try:
        _require(peer)
        with _interruptible():
            sys.exit(_run(console, peer.resolve(), dataplane, plain=plain, keep=keep, seconds=seconds))
    except LabError as problem:
        click.echo(f"demo: {problem}", err=True)
        sys.exit(NOT_RUN)
    except KeyboardInterrupt:
        click.echo("demo: interrupted; its lab is gone", err=True)
        sys.exit(INTERRUPTED)


def _require(peer: Path) -> None:
    if not os.access(peer, os.X_OK):
        raise LabError(f"{peer} is not there; `make peers` builds it")
    if shutil.which("conntrack") is None:
        raise LabError("conntrack is not in PATH; on Debian: apt install conntrack")


def _run(console: Console, peer: Path, dataplane: str, *, plain: bool, keep: bool, seconds: float) -> int:
    began = time.monotonic()
    # Finished checksums, so that receivers verify them all.
    topology = Topology(f"demo{os.getpid()}", nodes=len(NODES), nats=2, offload=False)
    try:
        lab = Lab.up(topology)
        site = Site(lab, peer, dataplane)
        view = Lively(console) if console.is_terminal and not plain else Plain(console)
        with view:
            claims = Scenes(site, view, seconds).play()
        plane = site.status()["dataplane"]
        console.print(conclusion(claims, f"{plane} plane", time.monotonic() - began))
        if keep:
            _tell_of(console, topology.name)
    except BaseException:
        _take_down(topology.name)
        raise
    if not keep:
        _take_down(topology.name)
    return _status(claims)


def _status(claims: list[Claim]) -> int:
    return 0 if all(claim.as_expected for claim in claims) else NOT_AS_CLAIMED


def _tell_of(console: Console, name: str) -> None:
    console.print(f"\nThe lab is still up:\n  pointsman lab exec --name {name} gw -- pointsman status")
    console.print(f"  pointsman lab down {name}")


def _take_down(name: str) -> None:
    """Leave nothing behind, whatever signal comes meanwhile."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    take_down(name)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have every signal that asks for the end raise KeyboardInterrupt."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    demo()
