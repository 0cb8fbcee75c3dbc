"""Ranges of ports as nftables and policy routing take them."""

from __future__ import annotations

from collections.abc import Iterable

from pointsman.model import PortRange


def merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """The same ports in ranges that do not touch."""
    found: list[PortRange] = []
    for own in sorted(ranges, key=lambda own: own.first):
        if found and own.first <= found[-1].last + 1:
            found[-1] = PortRange(found[-1].first, max(found[-1].last, own.last))
        else:
            found.append(own)
    return found


def words(ranges: Iterable[PortRange]) -> list[str]:
    """The same ports as ``53`` and ``6000-6010``, none of them twice."""
    return [f"{own.first}-{own.last}" if own.first < own.last else f"{own.first}" for own in merged(ranges)]


def nft_set(ranges: Iterable[PortRange]) -> str:
    return f"{{ {', '.join(words(ranges))} }}"
