"""ICMP echo of both families."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP

from pointsman.wire.checksum import internet_checksum
from pointsman.wire.icmp_echo import Echo, behind_ipv4, parse_reply, request

ECHOES = st.builds(Echo, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=64))


def test_a_request_is_what_scapy_writes() -> None:
    mine = request(4, Echo(0x1234, 7, b"abc"))
    assert mine == bytes(ICMP(type=8, id=0x1234, seq=7) / b"abc")
    assert internet_checksum(mine) == 0
    assert request(6, Echo(0x1234, 7, b"abc")) == b"\x80\0\0\0\x12\x34\0\x07abc"


@pytest.mark.parametrize("family", [4, 6])
@given(echo=ECHOES)
def test_the_reply_to_it_is_read_as_what_was_asked(family: int, echo: Echo) -> None:
    asked = request(family, echo)
    assert parse_reply(family, asked) is None
    assert parse_reply(family, bytes((0 if family == 4 else 129,)) + asked[1:]) == echo


def test_an_ipv4_header_is_taken_off_with_its_options() -> None:
    assert behind_ipv4(bytes(IP(dst="10.0.0.1") / b"x")) == b"x"
    assert behind_ipv4(b"\x46" + bytes(23) + b"x") == b"x"


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.binary(max_size=80))
def test_any_bytes_are_a_reply_or_none(family: int, data: bytes) -> None:
    echo = parse_reply(family, behind_ipv4(data) if family == 4 else data)
    assert echo is None or len(echo.data) <= 72
