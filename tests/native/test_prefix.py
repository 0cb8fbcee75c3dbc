"""bpf/lib/prefix.h against the ipaddress module."""

from __future__ import annotations

import ctypes
from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Native


@given(address=st.integers(0, 2**32 - 1), bits=st.integers(0, 32))
def test_words_are_cut_where_networks_are(native: Native, address: int, bits: int) -> None:
    wanted = IPv4Network((address, bits), strict=False).network_address.packed
    word = int.from_bytes(address.to_bytes(4, "big"), "little")
    assert native.prefix_word(word, bits).to_bytes(4, "little") == wanted


@given(address=st.integers(0, 2**128 - 1), bits=st.integers(0, 128))
def test_addresses_are_cut_where_networks_are(native: Native, address: int, bits: int) -> None:
    wanted = IPv6Network((address, bits), strict=False).network_address.packed
    words = (ctypes.c_uint32 * 4).from_buffer_copy(address.to_bytes(16, "big"))
    native.prefix_of(words, bits)
    assert bytes(words) == wanted
