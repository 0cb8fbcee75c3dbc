"""A daemon started over whatever a command has left that was killed halfway, at each of its steps in turn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.conformance.evidence import machine_state
from tests.conformance.halfway import KILLED
from tests.conformance.load import Load, both_families
from tests.conformance.serving import Daemon
from tests.conformance.site import Site, cid

pytestmark = pytest.mark.timeout(900)

HALFWAY = [sys.executable, str(Path(__file__).with_name("halfway.py"))]
STEPS = int(os.environ.get("POINTSMAN_STEPS", "12"))
"""So many are tried, spread over all of them, with the first and the last."""
SECOND_VIP = "\n".join(
    [
        "[[service]]",
        'name = "second"',
        'protocol = "udp"',
        "listen = [",
        '  {{ address = "192.0.2.77:5683", interface = "wan0" }},',
        '  {{ address = "[2001:db8::77]:5683", interface = "wan0" }},',
        "]",
        "[[service.node]]",
        'name = "n1"',
        "address = [{addresses}]",
        "",
    ]
)


def killed(site: Site, step: int, file: Path, verb: str = "apply") -> bool:
    """Whether it was killed: a change on xdp may take a few steps less the second time."""
    arguments = [verb, str(file)] if verb == "apply" else [verb]
    done = site.lab.run("gw", [*HALFWAY, str(step), *arguments], check=False)
    assert done.returncode in (KILLED, 0), done.stderr
    return done.returncode == KILLED


def steps(site: Site, file: Path) -> list[int]:
    """Numbers of the effects that applying the file has, as many as are to be tried."""
    done = site.lab.run("gw", [*HALFWAY, "0", "apply", str(file)])
    count = int(done.stderr.splitlines()[-1])
    assert count > 2
    return sorted({1 + round(i * (count - 1) / (STEPS - 1)) for i in range(STEPS)})


def versions(site: Site) -> tuple[str, Path]:
    """What stands at first, and the file of what is applied: another set of nodes, and a VIP more."""
    addresses = ", ".join(f'"{site.lab.address("n1", family)}"' for family in (4, 6))
    after = site.lab.scratch / "after.toml"
    after.write_text(both_families(site, ["n1", "n3"]) + "\n" + SECOND_VIP.format(addresses=addresses))
    return both_families(site, ["n1", "n2"]), after


def started_over(site: Site, file: Path) -> None:
    """A daemon starts, and then all is as the file says."""
    daemon = Daemon(site, file)
    daemon.start()
    assert site.ask(site.client(), cid(3)).node == "n3"
    daemon.stop()
    assert "nothing to change" in site.pointsman("apply", str(file)).stdout


def test_a_daemon_goes_on_from_every_step_of_a_change_and_no_packet_is_lost(once: Site) -> None:
    before, after = versions(once)
    once.nodes(["n2", "n3"])  # the load is for n1
    once.apply(before)
    tried = steps(once, after)
    missed = 0
    for step in tried:
        once.apply(before)
        load = Load(once.lab, 500)
        try:
            missed += not killed(once, step, after)
            started_over(once, after)
        finally:
            sent, arrived = load.stop()
        assert (sent > 100, arrived) == (True, sent), step
    assert missed <= 1
    print(f"{once.plane}: a daemon over a change killed at each of the steps {tried}, but for {missed}")


def test_a_daemon_goes_on_from_every_step_of_a_first_apply_and_down_puts_back_all(once: Site) -> None:
    _, after = versions(once)
    once.nodes(["n1", "n3"])
    bare = machine_state(once.lab)
    tried = steps(once, after)
    once.pointsman("down")
    assert machine_state(once.lab) == bare
    for step in tried:
        assert killed(once, step, after)
        started_over(once, after)
        once.pointsman("down")
        assert machine_state(once.lab) == bare, step
    print(f"{once.plane}: a daemon over a first apply killed at each of the steps {tried}")


def test_a_daemon_goes_on_from_every_step_of_a_removal(once: Site) -> None:
    _, after = versions(once)
    once.nodes(["n1", "n3"])
    once.apply(after.read_text())
    done = once.lab.run("gw", [*HALFWAY, "0", "down"])
    count = int(done.stderr.splitlines()[-1])
    for step in sorted({1 + round(i * (count - 1) / 5) for i in range(6)}):
        once.apply(after.read_text())
        assert killed(once, step, after, "down")
        started_over(once, after)
