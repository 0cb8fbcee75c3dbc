"""Prefixes become ranges that do not overlap, in which the longest prefix has its way and allow wins a tie."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pointsman.model import Family, Filter, Prefix
from pointsman.plan.prefixes import Sources, sources

# In the last byte, so that they nest and touch.
PREFIX4 = st.builds(
    lambda number, length: IPv4Network((0xC0000200 | number >> (32 - length) << (32 - length), length)),
    st.integers(0, 255),
    st.integers(24, 32),
)
PREFIX6 = st.builds(
    lambda number, length: IPv6Network(
        ((0x20010DB8 << 96) | number >> (128 - length) << (128 - length), length)
    ),
    st.integers(0, 255),
    st.integers(120, 128),
)


def by_hand(own: Filter, address: int, family: Family) -> bool | None:
    """What the longest prefix says of an address: allowed, denied or nothing."""
    found = [
        (prefix.prefixlen, allowed)
        for allowed, prefixes in ((True, own.allow), (False, own.deny))
        for prefix in prefixes
        if prefix.version == family.value
        and int(prefix.network_address) <= address <= int(prefix.broadcast_address)
    ]
    return max(found)[1] if found else None


def said(found: Sources, address: int) -> bool | None:
    ours = [
        word
        for word, ranges in ((True, found.allowed), (False, found.denied))
        for first, last in ranges
        if first <= address <= last
    ]
    assert len(ours) <= 1
    return ours[0] if ours else None


@given(st.lists(PREFIX4 | PREFIX6, max_size=12), st.lists(PREFIX4 | PREFIX6, max_size=12))
def test_every_address_is_what_its_longest_prefix_says(allow: list[Prefix], deny: list[Prefix]) -> None:
    own = Filter(allow=tuple(allow), deny=tuple(deny))
    for family, base in ((Family.V4, 0xC0000200), (Family.V6, 0x20010DB8 << 96)):
        found = sources(own, family)
        for address in range(base - 2, base + 258):
            assert said(found, address) == by_hand(own, address, family), hex(address)
        for ranges in (found.allowed, found.denied):
            assert list(ranges) == sorted(ranges)
            assert all(one[1] + 1 < two[0] for one, two in pairwise(ranges))


def test_everything_denied_but_a_hole() -> None:
    own = Filter(allow=(ip_network("10.0.0.0/8"),), deny=(ip_network("0.0.0.0/0"), ip_network("10.1.0.0/16")))
    found = sources(own, Family.V4)
    assert found.allowed == ((0x0A000000, 0x0A00FFFF), (0x0A020000, 0x0AFFFFFF))
    assert found.denied == ((0, 0x09FFFFFF), (0x0A010000, 0x0A01FFFF), (0x0B000000, 0xFFFFFFFF))
    assert sources(own, Family.V6) == Sources((), ())


def test_neighbours_become_one_range() -> None:
    own = Filter(deny=tuple(ip_network(f"10.0.{i}.0/24") for i in range(256)))
    assert sources(own, Family.V4).denied == ((0x0A000000, 0x0A00FFFF),)
