from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.wire import dtls
from pointsman.wire.connection_id import node_id, read_bits, write_bits

CID = bytes.fromhex("01f9b08d8ce8")


@st.composite
def ranges(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """Some bytes, and a range of bits that lies in them."""
    data = draw(st.binary(min_size=1, max_size=24))
    offset = draw(st.integers(0, 8 * len(data) - 1))
    return data, offset, draw(st.integers(1, 8 * len(data) - offset))


@pytest.mark.parametrize(
    ("offset", "bits", "value"),
    [
        (0, 8, 0x01),
        (8, 8, 0xF9),
        (0, 16, 0x01F9),
        (0, 48, 0x01F9B08D8CE8),
        (7, 1, 1),
        (6, 1, 0),
        (3, 5, 0b00001),
        (8, 3, 0b111),
        (11, 5, 0b11001),
        (4, 8, 0x1F),
        (12, 12, 0x9B0),
        (47, 1, 0),
        (44, 4, 0x8),
    ],
)
def test_bits_are_counted_from_the_most_significant(offset: int, bits: int, value: int) -> None:
    assert read_bits(CID, offset, bits) == value


@pytest.mark.parametrize(("offset", "bits"), [(48, 1), (47, 2), (0, 49), (1000, 8)])
def test_bits_beyond_the_end_are_none(offset: int, bits: int) -> None:
    assert read_bits(CID, offset, bits) is None


@given(ranges())
def test_bits_are_those_of_the_binary_notation(case: tuple[bytes, int, int]) -> None:
    data, offset, bits = case
    notation = "".join(f"{byte:08b}" for byte in data)
    assert read_bits(data, offset, bits) == int(notation[offset : offset + bits], 2)


@given(ranges(), st.data())
def test_what_is_written_is_read_and_the_rest_is_kept(
    case: tuple[bytes, int, int], data: st.DataObject
) -> None:
    before, offset, bits = case
    value = data.draw(st.integers(0, (1 << bits) - 1))
    after = write_bits(before, offset, bits, value)
    assert read_bits(after, offset, bits) == value
    assert len(after) == len(before)
    original = read_bits(before, offset, bits)
    assert original is not None
    assert write_bits(after, offset, bits, original) == before


@given(st.binary(max_size=12), st.integers(0, 120), st.integers(1, 120))
def test_writing_is_refused_exactly_where_reading_finds_nothing(data: bytes, offset: int, bits: int) -> None:
    if read_bits(data, offset, bits) is None:
        with pytest.raises(ValueError, match="have no bits"):
            write_bits(data, offset, bits, 0)
    else:
        write_bits(data, offset, bits, 0)


@pytest.mark.parametrize("value", [-1, 256])
def test_value_has_to_fit(value: int) -> None:
    with pytest.raises(ValueError, match=r"out of range 0\.\.255"):
        write_bits(CID, 0, 8, value)


@pytest.mark.parametrize(("offset", "bits"), [(-1, 8), (0, 0), (0, -1)])
def test_range_has_to_be_one(offset: int, bits: int) -> None:
    with pytest.raises(ValueError, match="no such range"):
        read_bits(CID, offset, bits)
    with pytest.raises(ValueError, match="no such range"):
        write_bits(CID, offset, bits, 0)


@given(ranges(), st.data())
def test_node_id_is_read_where_the_node_wrote_it(case: tuple[bytes, int, int], data: st.DataObject) -> None:
    cid, offset, bits = case
    node = data.draw(st.integers(0, (1 << bits) - 1))
    payload = dtls.cid_record(write_bits(cid, offset, bits, node))
    assert node_id(payload, offset, bits) == node


@given(st.binary(max_size=80), st.integers(0, 64), st.integers(1, 64))
def test_only_cid_records_name_a_node(payload: bytes, offset: int, bits: int) -> None:
    expected = read_bits(payload[11:], offset, bits) if dtls.is_cid_record(payload) else None
    assert node_id(payload, offset, bits) == expected


def test_record_that_ends_before_the_node_id_names_none() -> None:
    payload = dtls.cid_record(CID)
    assert node_id(payload[:12], 0, 8) == 1
    assert node_id(payload[:11], 0, 8) is None
    assert node_id(payload[:12], 0, 9) is None


def test_reading_goes_on_into_what_follows_a_short_connection_id() -> None:
    assert node_id(dtls.cid_record(b"\x07", body=bytes(0x20)), 0, 16) == 0x0700
