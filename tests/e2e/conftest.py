"""The lab that the end-to-end cases run in: real DTLS peers, once for each worker.

| role       | where                                                            |
|------------|------------------------------------------------------------------|
| n1 ... n4  | cidpeer servers of both families, the node's number in their CIDs |
| dev1, dev2 | cidpeer clients behind nat1 and nat2                             |
| client     | cidpeer clients without a NAT, with any address of 198.19.0.0/16 |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance import started

from pointsman.lab.build import Lab
from pointsman.lab.demo_site import Site
from pointsman.lab.errors import LabError
from pointsman.lab.topology import Topology

PEER = Path(__file__).parents[2] / "build/peers/cidpeer"
PLANES = ["nftables", "xdp"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" not in item.path.parts:
            continue
        if item.get_closest_marker("netns") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="makes network namespaces; needs root"))
        if item.get_closest_marker("peers") and not os.access(PEER, os.X_OK):
            item.add_marker(pytest.mark.skip(reason="needs the DTLS peers; `make peers` builds them"))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    worker = getattr(request.config, "workerinput", {}).get("workerid", "main")
    # With finished checksums: receivers then verify every one.
    with Lab.up(Topology(f"e{os.getpid()}-{worker}", nodes=4, nats=2, offload=False)) as built:
        yield built


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def forget_connections(lab: Lab) -> None:
    """Have no socket of this case send to the next one, nor hold the ports that its clients would take."""
    for machine in lab.topology.machines:
        lab.run(machine.name, ["ss", "-K", "-t", "state", "all"])


class QuickSite(Site):
    """Its commands come from a server that has imported all before."""

    def pointsman(self, *arguments: str) -> str:
        done = started.run(self.lab.namespace("gw"), arguments, timeout=60)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise LabError(f"pointsman {' '.join(arguments)}: {said[-1]}")
        return done.stdout


@pytest.fixture
def site(lab: Lab, plane: str) -> Iterator[Site]:
    """A site with nothing applied; afterwards no receiver has seen a wrong checksum."""
    before = lab.checksum_errors()
    found = QuickSite(lab, PEER, plane)
    try:
        yield found
    finally:
        found.close()
        forget_connections(lab)
        found.pointsman("down")
        lab.run("gw", ["nft", "flush", "ruleset"])
        lab.run("gw", ["conntrack", "-F"])
        for number in (1, 2):
            nat = lab.nat(number)
            for family in (4, 6):
                nat.remap(nat.external(family)[0])
    assert lab.checksum_errors() == before
