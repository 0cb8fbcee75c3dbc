from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.jhash import client_key, client_slot, jhash, reciprocal_scale

WORD = st.integers(0, 0xFFFFFFFF)

# What a 6.18 kernel answered (x86-64, ``jhash ... mod 4294967295 seed ...``): concatenations of several
# lengths, with 12 and 24 bytes as the cases where the last block is whole.
FROM_THE_KERNEL = [
    ("c0000201", 0, 0xB3BCB8D1),
    ("cb00714d", 0x5EED1234, 0x5CD50A04),
    ("c000020116340000", 0, 0x44D6D7BF),
    ("cb00714def320000", 0, 0x6B0C954F),
    ("c000020116340000", 0x5EED1234, 0xD59237E7),
    ("cb00714def320000", 0x5EED1234, 0x9263CEA7),
    ("c00002017f00000116340000", 0, 0x03176355),
    ("cb00714d7f000001ef320000", 0x5EED1234, 0x2E50B7C3),
    ("20010db8000000000000000000000001", 0, 0x0E5B0ADB),
    ("20010db8ffff00010002000300040005", 0x5EED1234, 0x9B5339EC),
    ("20010db800000000000000000000000116340000", 0, 0xF249BDBF),
    ("20010db8ffff00010002000300040005ef320000", 0, 0x9A9CA141),
    ("20010db800000000000000000000000116340000", 0x5EED1234, 0x106FF10E),
    ("20010db8ffff00010002000300040005ef320000", 0x5EED1234, 0xF000A6C9),
    ("20010db80000000000000000000000011634000000090000", 0, 0xB2669AB6),
    ("20010db8ffff00010002000300040005ef32000000090000", 0x5EED1234, 0x953D55E4),
    ("20010db80000000000000000000000010000000000000000000000000000000116340000", 0, 0x53EE75EC),
    ("20010db8ffff0001000200030004000500000000000000000000000000000001ef320000", 0x5EED1234, 0xAD189697),
]


@pytest.mark.parametrize(("key", "seed", "hashed"), FROM_THE_KERNEL)
def test_hashes_as_the_kernel_did(key: str, seed: int, hashed: int) -> None:
    assert jhash(bytes.fromhex(key), seed) == hashed


def test_hash_of_nothing_is_the_start_value() -> None:
    assert jhash(b"", 0) == 0xDEADBEEF
    assert jhash(b"", 0xFFFFFFFF) == 0xDEADBEEE


@given(st.binary(max_size=64), WORD)
def test_hash_has_32_bits(key: bytes, seed: int) -> None:
    assert 0 <= jhash(key, seed) <= 0xFFFFFFFF


@given(WORD, st.integers(1, 1 << 20))
def test_scaling_stays_in_the_table(value: int, size: int) -> None:
    assert 0 <= reciprocal_scale(value, size) < size


def test_scaling_reaches_both_ends() -> None:
    assert reciprocal_scale(0, 251) == 0
    assert reciprocal_scale(0xFFFFFFFF, 251) == 250
    assert reciprocal_scale(0x80000000, 250) == 125


def test_key_is_the_address_the_port_and_two_zero_bytes() -> None:
    assert client_key(IPv4Address("192.0.2.1"), 5684).hex() == "c000020116340000"
    assert client_key(IPv6Address("2001:db8::1"), 5684).hex() == "20010db800000000000000000000000116340000"


@pytest.mark.parametrize("port", [-1, 65536])
def test_key_refuses_a_port_of_more_than_16_bits(port: int) -> None:
    with pytest.raises(OverflowError):
        client_key(IPv4Address("192.0.2.1"), port)


def test_slot_is_the_scaled_hash_of_the_key() -> None:
    assert client_slot(IPv4Address("192.0.2.1"), 5684, 1009, 0) == (0x44D6D7BF * 1009) >> 32
    assert client_slot(IPv6Address("2001:db8::1"), 5684, 65537, 0x5EED1234) == (0x106FF10E * 65537) >> 32


def test_clients_spread_evenly() -> None:
    counts = [0] * 16
    for port in range(1024, 1024 + 16_000):
        counts[client_slot(IPv4Address("198.51.100.7"), port, 16, 0x5EED1234)] += 1
    assert all(850 < count < 1150 for count in counts)
