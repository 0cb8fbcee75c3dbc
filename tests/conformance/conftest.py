"""The lab that the conformance cases run in, once for each worker, data plane and family."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.conformance.direct import put_back
from tests.conformance.site import Site

from pointsman.lab.build import Lab
from pointsman.lab.topology import Topology
from pointsman.model.abilities import carries

PLANES = ["nftables", "xdp"]
FAMILIES = [4, 6]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "only_on(plane, because): what the other data plane does differently, or not at all"
    )
    config.addinivalue_line("markers", "asks(key, value): run where the plane carries that of a service")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "conformance" not in item.path.parts:
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="makes network namespaces; needs root"))
        for mark in item.iter_markers("only_on"):
            if item.callspec.params["plane"] != mark.args[0]:  # type: ignore[attr-defined]
                reason = f"only on {mark.args[0]}: {mark.kwargs['because']}"
                item.add_marker(pytest.mark.skip(reason=reason))
        for mark in item.iter_markers("asks"):
            plane = item.callspec.params["plane"]  # type: ignore[attr-defined]
            if not carries(plane, *mark.args):
                item.add_marker(pytest.mark.skip(reason=f"not carried by {plane} in this version"))


@pytest.fixture(scope="session")
def labs(worker_id: str) -> Iterator[Callable[..., Lab]]:
    """A lab for each plane, built when it is first asked for."""
    with ExitStack() as stack:
        built: dict[tuple[bool, bool], Lab] = {}

        def lab_for(plane: str, *, direct: bool = False) -> Lab:
            # XDP cannot finish the checksums that senders leave to their device.
            offload = plane != "xdp"
            if (offload, direct) not in built:
                name = f"c{os.getpid()}-{worker_id}{'' if offload else '-x'}{'-d' if direct else ''}"
                nats = 0 if direct else 1
                topology = Topology(
                    name, nodes=3, nats=nats, devices_per_nat=2, offload=offload, direct=direct
                )
                built[offload, direct] = stack.enter_context(Lab.up(topology))
            return built[offload, direct]

        yield lab_for
        for each in built.values():
            assert each.checksum_errors() == {}


@pytest.fixture
def lab(labs: Callable[..., Lab], plane: str) -> Lab:
    return labs(plane)


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


@pytest.fixture
def direct(labs: Callable[..., Lab], plane: str, family: int) -> Iterator[Site]:
    """A site whose nodes have a link of their own to the clients; they are put back as they were."""
    lab = labs(plane, direct=True)
    before = lab.checksum_errors()
    found = Site(lab, plane, family)
    yield found
    found.close()
    found.pointsman("down")
    put_back(found, "n1", "n2", "n3")
    assert lab.checksum_errors() == before


@pytest.fixture
def once(site: Site) -> Site:
    """For cases that have both families in one file, and both under load."""
    if site.family == 6:
        pytest.skip("the case for IPv4 has both families at once")
    return site
