"""The programs, loaded once for each worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.prog.rig import Rig, rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "prog" in item.path.parts and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="loads BPF programs; needs root"))


@pytest.fixture(scope="session")
def loaded() -> Iterator[Rig]:
    with rig() as made:
        yield made


@pytest.fixture
def gateway(loaded: Rig) -> Rig:
    """The programs with the service of rig.COAPS, and nothing remembered."""
    loaded.configure()
    return loaded


@pytest.fixture(params=[4, 6], ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)
