from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from pointsman.wire.checksum import internet_checksum, udp_checksum, update

CLIENT4, VIP4, NODE4 = IPv4Address("198.51.100.7"), IPv4Address("192.0.2.1"), IPv4Address("203.0.113.10")
CLIENT6, VIP6, NODE6 = (
    IPv6Address("2001:db8:c::7"),
    IPv6Address("2001:db8:1::1"),
    IPv6Address("2001:db8:2::10"),
)

PORT = st.integers(0, 0xFFFF)


def udp(source: int, destination: int, checksum: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), checksum) + payload


def by_the_book(data: bytes) -> int:
    """The loop of RFC 1071, section 4.1."""
    total = 0
    for position in range(0, len(data), 2):
        total += int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_example_of_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"", 0xFFFF), (b"\0\0", 0xFFFF), (b"\xff\xff", 0), (b"\xff\xff\xff\xff", 0), (b"\x12", 0xEDFF)],
)
def test_the_two_zeros_and_the_odd_byte(data: bytes, checksum: int) -> None:
    assert internet_checksum(data) == checksum


@given(st.binary(max_size=200))
def test_checksum_is_the_one_of_rfc_1071_and_of_scapy(data: bytes) -> None:
    assert internet_checksum(data) == by_the_book(data) == scapy_checksum(data)


@given(st.binary(min_size=2, max_size=60).filter(lambda data: len(data) % 2 == 0))
def test_what_holds_its_checksum_sums_to_zero(data: bytes) -> None:
    assert internet_checksum(data + internet_checksum(data).to_bytes(2, "big")) == 0


@st.composite
def replacement(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    data = draw(st.binary(min_size=2, max_size=60))
    words = draw(st.integers(0, len(data) // 2))
    offset = 2 * draw(st.integers(0, len(data) // 2 - words))
    return data, offset, draw(st.binary(min_size=2 * words, max_size=2 * words))


@given(replacement())
def test_update_is_as_good_as_computing_again(change: tuple[bytes, int, bytes]) -> None:
    data, offset, new = change
    changed = data[:offset] + new + data[offset + len(new) :]
    # All zeros is the one case in which equation 3 writes the other of the two zeros; no packet is all zeros.
    assume(any(changed))
    assert update(internet_checksum(data), data[offset : offset + len(new)], new) == internet_checksum(
        changed
    )


@pytest.mark.parametrize(("old", "new"), [(b"ab", b"abcd"), (b"a", b"b")])
def test_update_refuses_lengths_that_would_shift_the_rest(old: bytes, new: bytes) -> None:
    with pytest.raises(ValueError, match="the same and even"):
        update(0, old, new)


def test_example_of_rfc_1624() -> None:
    # Section 4: equation 2 of RFC 1141 gives 0xffff here.
    assert update(0xDD2F, bytes.fromhex("5555"), bytes.fromhex("3285")) == 0


@given(PORT, PORT, st.binary(max_size=100))
def test_ipv4_udp_checksum_is_scapys(source: int, destination: int, payload: bytes) -> None:
    packet = IP(src=str(CLIENT4), dst=str(VIP4)) / UDP(sport=source, dport=destination) / Raw(payload)
    built = IP(bytes(packet))[UDP].chksum
    assert udp_checksum(CLIENT4, VIP4, udp(source, destination, 0, payload)) == built


@given(PORT, PORT, st.binary(max_size=100))
def test_ipv6_udp_checksum_is_scapys(source: int, destination: int, payload: bytes) -> None:
    packet = IPv6(src=str(CLIENT6), dst=str(VIP6)) / UDP(sport=source, dport=destination) / Raw(payload)
    built = IPv6(bytes(packet))[UDP].chksum
    assert udp_checksum(CLIENT6, VIP6, udp(source, destination, 0, payload)) == built


def test_udp_checksum_is_never_the_zero_that_means_none() -> None:
    plain = udp_checksum(CLIENT4, VIP4, udp(1, 2, 0, b"\0\0"))
    assert udp_checksum(CLIENT4, VIP4, udp(1, 2, 0, plain.to_bytes(2, "big"))) == 0xFFFF


def test_update_follows_a_datagram_to_its_node_in_both_families() -> None:
    segment = udp(40000, 5684, 0, b"hello")
    for client, vip, node in ((CLIENT4, VIP4, NODE4), (CLIENT6, VIP6, NODE6)):
        arrived = udp_checksum(client, vip, segment)
        assert update(arrived, vip.packed, node.packed) == udp_checksum(client, node, segment)


def test_addresses_of_two_families_have_no_checksum() -> None:
    with pytest.raises(ValueError, match="two families"):
        udp_checksum(CLIENT4, VIP6, udp(1, 2, 0, b""))
