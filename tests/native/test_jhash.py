"""jhash.h finds the slot that plan/jhash.py and the kernel find."""

from __future__ import annotations

import ctypes
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Hash, Native

from pointsman.plan.jhash import client_key, client_slot, jhash, reciprocal_scale

WORDS = st.integers(0, 0xFFFFFFFF)
PORTS = st.integers(0, 0xFFFF)
CLIENTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def hashed(native: Native, client: IPv4Address | IPv6Address, port: int, seed: int) -> Hash:
    port_in_memory = int.from_bytes(port.to_bytes(2, "big"), "little")
    words = (ctypes.c_uint32 * (len(client.packed) // 4)).from_buffer_copy(client.packed)
    if client.version == 4:
        return native.jhash_client4(words[0], port_in_memory, seed)  # type: ignore[no-any-return]
    return native.jhash_client6(words, port_in_memory, seed)  # type: ignore[no-any-return]


@given(CLIENTS, PORTS, WORDS)
def test_a_client_has_the_kernels_hash(
    native: Native, client: IPv4Address | IPv6Address, port: int, seed: int
) -> None:
    assert hashed(native, client, port, seed).c == jhash(client_key(client, port), seed)


@given(CLIENTS, PORTS, st.integers(1, 1 << 20), WORDS)
def test_a_client_has_the_slot_that_explain_names(
    native: Native, client: IPv4Address | IPv6Address, port: int, size: int, seed: int
) -> None:
    slot = native.reciprocal_scale(hashed(native, client, port, seed).c, size)
    assert slot == client_slot(client, port, size, seed)
    assert slot < size


@given(WORDS, WORDS)
def test_scaling_is_that_of_the_plan(native: Native, value: int, size: int) -> None:
    assert native.reciprocal_scale(value, size) == reciprocal_scale(value, size)


def test_both_words_together_tell_neighbouring_clients_apart(native: Native) -> None:
    clients = [
        (address, port)
        for base in (IPv4Address("192.0.2.0"), IPv6Address("2001:db8::"))
        for address in (base + n for n in range(64))
        for port in range(1024, 1424)
    ]
    hashes = {(found.b, found.c) for found in (hashed(native, *client, seed=7) for client in clients)}
    assert len(hashes) == len(clients)
