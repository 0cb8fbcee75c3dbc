"""The kernel's jhash, as nftables and the XDP programs compute it for a client.

Both data planes and ``explain`` have to reach the same slot for a client, so this is the kernel's arithmetic
and not a hash of our own choice; tests/conformance/test_jhash_against_the_kernel.py holds it against the real
one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

JHASH_INITVAL = 0xDEADBEEF
"""The arbitrary start value of include/linux/jhash.h."""

_MASK = 0xFFFFFFFF


def jhash(key: bytes, initval: int) -> int:
    """Hash ``key`` to 32 bits.

    ``initval`` is the seed, 32 bits. The kernel reads whole words in its own byte order: this is the hash
    of a little-endian machine, which x86-64, arm64 and riscv64 are.
    Source: ``jhash()`` in include/linux/jhash.h (Bob Jenkins' lookup3).
    """
    left = len(key)
    a = b = c = (JHASH_INITVAL + left + initval) & _MASK
    position = 0
    while left > 12:
        a = (a + int.from_bytes(key[position : position + 4], "little")) & _MASK
        b = (b + int.from_bytes(key[position + 4 : position + 8], "little")) & _MASK
        c = (c + int.from_bytes(key[position + 8 : position + 12], "little")) & _MASK
        # __jhash_mix
        a = ((a - c) & _MASK) ^ ((c << 4 | c >> 28) & _MASK)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ ((a << 6 | a >> 26) & _MASK)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ ((b << 8 | b >> 24) & _MASK)
        b = (b + a) & _MASK
        a = ((a - c) & _MASK) ^ ((c << 16 | c >> 16) & _MASK)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ ((a << 19 | a >> 13) & _MASK)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ ((b << 4 | b >> 28) & _MASK)
        b = (b + a) & _MASK
        left -= 12
        position += 12
    if left == 0:
        return c
    # A short tail counts as if it were filled up with zero bytes: from_bytes of a short slice is just that.
    a = (a + int.from_bytes(key[position : position + 4], "little")) & _MASK
    b = (b + int.from_bytes(key[position + 4 : position + 8], "little")) & _MASK
    c = (c + int.from_bytes(key[position + 8 : position + 12], "little")) & _MASK
    # __jhash_final
    c = ((c ^ b) - (b << 14 | b >> 18)) & _MASK
    a = ((a ^ c) - (c << 11 | c >> 21)) & _MASK
    b = ((b ^ a) - (a << 25 | a >> 7)) & _MASK
    c = ((c ^ b) - (b << 16 | b >> 16)) & _MASK
    a = ((a ^ c) - (c << 4 | c >> 28)) & _MASK
    b = ((b ^ a) - (a << 14 | a >> 18)) & _MASK
    return ((c ^ b) - (b << 24 | b >> 8)) & _MASK


def reciprocal_scale(value: int, size: int) -> int:
    """Scale a 32-bit ``value`` down to ``0 .. size - 1``.

    nft writes it ``mod``, but it is no remainder: the high bits of the hash decide.
    Source: ``reciprocal_scale()``, which net/netfilter/nft_hash.c applies.
    """
    return (value * size) >> 32


def client_key(address: IPv4Address | IPv6Address, port: int) -> bytes:
    """Lay a client out as nftables concatenates ``ip saddr . udp sport``, 8 bytes for IPv4 and 20 for IPv6.

    Every field of a concatenation fills whole 32-bit registers, hence the two zero bytes after the port.
    Raises ``OverflowError`` where ``port`` is no 16-bit number.
    """
    return address.packed + port.to_bytes(2, "big") + b"\0\0"


def client_slot(address: IPv4Address | IPv6Address, port: int, size: int, seed: int) -> int:
    """Find the slot of a client in a table of ``size`` slots.

    Source: nft's ``jhash ip saddr . udp sport mod SIZE seed SEED``, ``ip6 saddr`` likewise.
    """
    return reciprocal_scale(jhash(client_key(address, port), seed), size)
