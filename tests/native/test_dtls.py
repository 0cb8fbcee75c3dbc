"""dtls.h sees in a datagram what wire/dtls.py and wire/connection_id.py see in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Native

from pointsman.wire import dtls
from pointsman.wire.connection_id import node_id

HELLO = dtls.client_hello(bytes(32))
LAST_BIT = 2040
"""Configurations have offset + bits up to this."""


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Anything, or a record that is nearly right, cut off anywhere."""
    payload = draw(
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=300).map(lambda cid: b"\x19\xfe\xfd" + cid),
            st.binary(min_size=1, max_size=255).map(lambda cid: dtls.cid_record(cid, body=b"")),
            st.just(HELLO),
            st.integers(0, 2).map(lambda seq: dtls.client_hello(bytes(32), message_seq=seq)),
        )
    )
    for _ in range(draw(st.integers(0, 2)) if payload else 0):
        at = draw(st.integers(0, min(len(payload), 20) - 1))
        payload = payload[:at] + draw(st.binary(min_size=1, max_size=1)) + payload[at + 1 :]
    return payload[: draw(st.integers(0, len(payload)))] if draw(st.booleans()) else payload


@st.composite
def datagrams(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """What is in the frame's memory, what the IP header says there is, and the bytes that both allow."""
    held = draw(payloads())
    left = draw(
        st.one_of(
            st.just(len(held)), st.integers(0, len(held) + 12), st.sampled_from([1 << 16, (1 << 32) - 1])
        )
    )
    return held, left, held[:left]


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    """Offset and bits of the node id, more often near the connection ID's start than not."""
    bits = draw(st.integers(1, 32))
    return draw(st.one_of(st.integers(0, 48), st.integers(0, LAST_BIT - bits))), bits


def place(offset: int, bits: int) -> dict[str, int]:
    first, skipped = divmod(offset, 8)
    span = (skipped + bits + 7) // 8
    return {
        "start": dtls.CID_OFFSET + first,
        "span": span,
        "shift": 8 * span - skipped - bits,
        "mask": (1 << bits) - 1,
    }


@given(datagrams())
def test_a_cid_record_is_what_the_codec_calls_one(native: Native, datagram: tuple[bytes, int, bytes]) -> None:
    held, left, payload = datagram
    assert native.reads("is_cid_record", held, left) == dtls.is_cid_record(payload)


@given(datagrams())
def test_epoch_0_is_what_the_codec_calls_so(native: Native, datagram: tuple[bytes, int, bytes]) -> None:
    held, left, payload = datagram
    assert native.reads("is_epoch_0", held, left) == (dtls.epoch(payload) == 0)


@given(datagrams())
def test_a_first_client_hello_is_what_the_codec_calls_one(
    native: Native, datagram: tuple[bytes, int, bytes]
) -> None:
    held, left, payload = datagram
    assert native.reads("is_first_client_hello", held, left) == dtls.is_first_client_hello(payload)


@given(datagrams(), ranges())
def test_the_node_id_is_what_the_codec_reads(
    native: Native, datagram: tuple[bytes, int, bytes], bits: tuple[int, int]
) -> None:
    held, left, payload = datagram
    named = (
        native.node_id_at(held, left, **place(*bits)) if native.reads("is_cid_record", held, left) else None
    )
    assert named == node_id(payload, *bits)


def cuts(payload: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The payload cut off anywhere: by the frame, by the IP header, and by both."""
    for size in range(len(payload) + 1):
        for held, left in ((size, 1 << 16), (len(payload), size), (size, size)):
            yield payload[:held], left, payload[: min(held, left)]


@pytest.mark.parametrize("bits", [(0, 8), (0, 32), (7, 32), (3, 5), (2008, 32), (2039, 1)])
def test_the_node_id_is_read_exactly_when_its_last_byte_is_there(
    native: Native, bits: tuple[int, int]
) -> None:
    for held, left, payload in cuts(b"\x19\xfe\xfd" + bytes(range(1, 256)) + bytes(20)):
        if dtls.is_cid_record(payload):
            assert native.node_id_at(held, left, **place(*bits)) == node_id(payload, *bits)


def test_each_question_is_answered_exactly_when_its_last_byte_is_there(native: Native) -> None:
    for held, left, payload in cuts(HELLO):
        assert native.reads("is_first_client_hello", held, left) == (len(payload) >= 19)
        assert native.reads("is_epoch_0", held, left) == (len(payload) >= 5)
    for held, left, payload in cuts(dtls.cid_record(b"node")):
        assert native.reads("is_cid_record", held, left) == (len(payload) >= 3)


def test_the_whole_client_hello_is_first_and_the_one_with_the_cookie_is_not(native: Native) -> None:
    answer = dtls.client_hello(bytes(32), cookie=bytes(16), message_seq=1)
    assert native.reads("is_first_client_hello", HELLO, len(HELLO))
    assert not native.reads("is_first_client_hello", answer, len(answer))
