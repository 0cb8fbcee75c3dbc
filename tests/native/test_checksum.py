"""checksum.h mends a checksum to what it is when all is summed up again."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st
from tests.native.library import Native

from pointsman.wire.checksum import internet_checksum, udp_checksum, update

WORDS = st.integers(0, 0xFFFF)
EDGES = st.one_of(WORDS, st.sampled_from([0, 1, 0xFFFE, 0xFFFF]))


def in_memory(word: int) -> int:
    """A big-endian number as this machine reads it from memory."""
    return int.from_bytes(word.to_bytes(2, "big"), "little")


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The words that a checksum covers, before and after a change."""
    before = draw(st.lists(EDGES, min_size=1, max_size=64))
    after = [draw(EDGES) if draw(st.booleans()) else word for word in before]
    return tuple(b"".join(word.to_bytes(2, "big") for word in side) for side in (before, after))  # type: ignore[return-value]


def delta(native: Native, old: bytes, new: bytes) -> int:
    return sum(native.delta16(*pair) for pair in zip(words(old), words(new), strict=True))


@given(st.integers(0, 0xFFFFFFFF))
def test_folding_keeps_the_sum_of_words(native: Native, total: int) -> None:
    folded = native.fold(total)
    assert folded % 0xFFFF == total % 0xFFFF
    assert (folded == 0) == (total == 0)


@given(changes())
def test_a_mended_checksum_is_the_one_computed_anew(native: Native, change: tuple[bytes, bytes]) -> None:
    before, after = change
    mended = in_memory(native.update(in_memory(internet_checksum(before)), delta(native, before, after)))
    # Of nothing but zeros the whole sum has another zero than a mended one; nothing sent is all zeros.
    if any(after):
        assert mended == internet_checksum(after)


@given(EDGES, changes())
def test_any_checksum_is_mended_as_the_codec_does(
    native: Native, checksum: int, change: tuple[bytes, bytes]
) -> None:
    mended = in_memory(native.update(in_memory(checksum), delta(native, *change)))
    assert mended == update(checksum, *change)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_a_delta_of_32_bits_is_that_of_its_halves(native: Native, old: int, new: int) -> None:
    halves = list(zip(*(words(n.to_bytes(4, "little")) for n in (old, new)), strict=True))
    assert native.delta32(old, new) == sum(0xFFFF - before + after for before, after in halves)


@given(EDGES)
def test_as_many_deltas_as_promised_fit(native: Native, checksum: int) -> None:
    most = (1 << 15) * native.delta16(0, 0xFFFF)
    assert most < 1 << 32
    # Words of 0xffff in the place of zeros leave a sum modulo 65535 as it was.
    assert native.update(checksum, most) % 0xFFFF == checksum % 0xFFFF


@given(st.integers(0, 0xFFFFFFFF))
def test_no_udp_checksum_stays_none(native: Native, total: int) -> None:
    assert native.udp_update(0, total) == 0


@given(st.integers(1, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_no_other_udp_checksum_becomes_none(native: Native, checksum: int, total: int) -> None:
    assert native.udp_update(checksum, total) == (native.update(checksum, total) or 0xFFFF)


@given(
    st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), WORDS, WORDS, st.binary(max_size=40)
)
def test_a_rewritten_datagram_has_the_checksum_that_its_sender_would_have_written(
    native: Native, old: bytes, new: bytes, port: int, new_port: int, payload: bytes
) -> None:
    def checksum(addresses: bytes, port: int) -> int:
        ends = (IPv4Address(addresses[:4]), IPv4Address(addresses[4:]))
        length = (8 + len(payload)).to_bytes(2, "big")
        return udp_checksum(*ends, b"\x30\x39" + port.to_bytes(2, "big") + length + b"\0\0" + payload)

    total = delta(native, old + port.to_bytes(2, "big"), new + new_port.to_bytes(2, "big"))
    assert in_memory(native.udp_update(in_memory(checksum(old, port)), total)) == checksum(new, new_port)


@given(st.binary(min_size=20, max_size=20))
def test_the_sum_of_an_ipv4_header_is_that_of_its_words(native: Native, header: bytes) -> None:
    assert in_memory(native.ipv4_header_sum(header)) == internet_checksum(header) ^ 0xFFFF


@given(st.binary(min_size=18, max_size=18).filter(any))
def test_the_sum_of_a_right_ipv4_header_is_all_ones(native: Native, fields: bytes) -> None:
    checksum = internet_checksum(fields).to_bytes(2, "big")
    assert native.ipv4_header_sum(fields[:10] + checksum + fields[10:]) == 0xFFFF
