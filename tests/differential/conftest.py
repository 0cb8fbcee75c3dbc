"""Without root there are no network namespaces."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "differential" in item.path.parts and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="makes network namespaces; needs root"))
