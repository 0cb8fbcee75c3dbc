"""The payload is found where it is, and whatever the bytes are, nothing breaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.wire.frame import udp_payload

MACS = bytes(12)
UDP_HEADER = bytes(8)
PAYLOAD = b"\x19\xfe\xfd payload"


def ipv4(*, options: int = 0, protocol: int = 17, fragment: int = 0) -> bytes:
    head = bytes([0x45 + options, 0]) + bytes(4) + fragment.to_bytes(2, "big") + bytes([64, protocol])
    return b"\x08\x00" + head + bytes(10) + bytes(4 * options)


IPV6 = b"\x86\xdd" + b"\x60" + bytes(5) + bytes([17, 64]) + bytes(32)
TAG = b"\x81\x00\x00\x05"


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("header", [ipv4(), ipv4(options=3), IPV6], ids=["ip4", "options", "ip6"])
def test_it_is_found_behind_tags_and_options(header: bytes, tags: int) -> None:
    assert udp_payload(MACS + TAG * tags + header + UDP_HEADER + PAYLOAD) == PAYLOAD


@pytest.mark.parametrize("header", [ipv4(protocol=6), ipv4(fragment=5), b"\x08\x06" + bytes(40)])
def test_other_frames_have_none(header: bytes) -> None:
    assert udp_payload(MACS + header + UDP_HEADER + PAYLOAD) is None


@given(st.binary(max_size=96))
def test_anything_may_come(frame: bytes) -> None:
    found = udp_payload(frame)
    assert found is None or frame.endswith(found)
