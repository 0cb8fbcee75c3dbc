"""Elements that the kernel lays out alike are counted at once, with the same result as one by one."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.kernel import nft_elements
from pointsman.kernel.nft_elements import Element, count_data, elements

KEY, DATA, EXPIRATION, LIST_ELEMENT = 1, 2, 5, 1


def attribute(kind: int, content: bytes) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + bytes(-size % 4)


def element(key: bytes, data: bytes, left: int | None = None) -> bytes:
    content = attribute(KEY, attribute(1, key)) + attribute(DATA, attribute(1, data))
    if left is not None:
        content += attribute(EXPIRATION, left.to_bytes(8, "big"))
    return attribute(LIST_ELEMENT, content)


ELEMENTS = st.lists(
    st.tuples(
        st.one_of(st.binary(min_size=8, max_size=8), st.binary(min_size=4, max_size=12)),
        st.one_of(st.binary(min_size=2, max_size=2), st.binary(min_size=1, max_size=8)),
        st.one_of(st.just(1500), st.none(), st.integers(0, 1 << 40)),
    ),
    min_size=1,
    max_size=20,
)
LIKE = st.lists(
    st.tuples(st.binary(min_size=8, max_size=8), st.binary(min_size=2, max_size=2), st.integers(0, 1 << 40)),
    min_size=1,
    max_size=40,
)


@given(st.one_of(ELEMENTS, LIKE))
def test_counting_is_what_reading_each_tells(drawn: list[tuple[bytes, bytes, int | None]]) -> None:
    content = b"".join(element(*each) for each in drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nft_elements, "_dump", lambda _table, _name: iter([content]))
        assert list(elements("inet t", "m")) == [
            Element(key, data, None if left is None else left / 1000) for key, data, left in drawn
        ]
        assert count_data("inet t", "m") == Counter(data for _, data, _ in drawn)
