"""The library that holds the headers, plain and with sanitizers."""

from __future__ import annotations

import pytest
from tests.native.library import BUILDS, Native, build


@pytest.fixture(scope="session", params=sorted(BUILDS))
def native(request: pytest.FixtureRequest) -> Native:
    return Native(build(request.param))
