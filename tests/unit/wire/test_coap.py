"""CoAP by the bytes of RFC 7252."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.wire.coap import CoapError, Header, MessageType, code_text, get, parse_header


def test_a_ping_is_an_empty_confirmable_message() -> None:
    assert Header(MessageType.CONFIRMABLE, 0, 0x1234).encode() == bytes.fromhex("40001234")


def test_a_get_is_the_one_of_the_rfc() -> None:
    # RFC 7252, appendix A, figure 16: GET "temperature" of message id 0x7d34, without a token.
    assert get(0x7D34, b"", ["temperature"]) == bytes.fromhex("40017d34") + b"\xbbtemperature"
    assert get(0x7D35, b"\x20", ["temperature"]) == bytes.fromhex("41017d3520") + b"\xbbtemperature"


def test_options_say_how_far_they_are_from_the_one_before_and_how_long() -> None:
    parts = get(1, b"", ["a", "b" * 13, "c" * 255], ["d=e"])
    assert parts[4:] == b"".join([b"\xb1a", b"\x0d\x00" + b"b" * 13, b"\x0d\xf2" + b"c" * 255, b"\x43d=e"])


@given(
    st.sampled_from(MessageType), st.integers(1, 255), st.integers(0, 0xFFFF), st.binary(max_size=8),
    st.binary(),
)  # fmt: skip
def test_a_header_is_read_as_it_was_written(
    kind: MessageType, code: int, number: int, token: bytes, rest: bytes
) -> None:
    header = Header(kind, code, number, token)
    assert parse_header(header.encode() + rest) == header


@pytest.mark.parametrize(
    "text", ["", "400012", "00001234", "80001234", "4900123400", "41451234", "4000123400"]
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(CoapError):
        parse_header(bytes.fromhex(text))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_a_coap_error(data: bytes) -> None:
    try:
        header = parse_header(data)
    except CoapError:
        return
    assert data.startswith(header.encode())


def test_codes_are_written_as_people_do() -> None:
    assert [code_text(code) for code in (0x45, 0x84, 0xA0)] == ["2.05", "4.04", "5.00"]
