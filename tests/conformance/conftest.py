"""The lab that the conformance cases run in, once for each worker, data plane and family."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.conformance.site import Site

from pointsman.lab.build import Lab
from pointsman.lab.topology import Topology

PLANES = ["nftables"]
FAMILIES = [4, 6]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "conformance" in item.path.parts and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="makes network namespaces; needs root"))


@pytest.fixture(scope="session")
def lab(worker_id: str) -> Iterator[Lab]:
    with Lab.up(Topology(f"c{os.getpid()}-{worker_id}", nodes=3, nats=1, devices_per_nat=2)) as built:
        yield built
        assert built.checksum_errors() == {}


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """pytest-xdist's name for this process."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FAMILIES, ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def site(lab: Lab, plane: str, family: int) -> Iterator[Site]:
    """A site with nothing applied; it is taken down again, and no receiver has seen a wrong checksum."""
    before = lab.checksum_errors()
    found = Site(lab, plane, family)
    yield found
    found.close()
    found.pointsman("down")
    assert lab.checksum_errors() == before
