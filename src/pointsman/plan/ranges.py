"""Addresses with ports as people write them: neighbouring ports of one address as a range."""

from __future__ import annotations

from collections.abc import Iterable

from pointsman.model import Endpoint


def in_ranges(endpoints: Iterable[Endpoint]) -> list[str]:
    """``192.0.2.10:8000-8099``, in the order that they come in."""
    runs: list[tuple[Endpoint, int]] = []
    for end in endpoints:
        if runs and (first := runs[-1][0]).address == end.address and end.port == runs[-1][1] + 1:
            runs[-1] = (first, end.port)
        else:
            runs.append((end, end.port))
    return [str(first) if last == first.port else f"{first}-{last}" for first, last in runs]
