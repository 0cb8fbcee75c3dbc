"""What a filter calls DTLS: all of what real clients sent, and nothing of what floods are made of."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.junk import FOREIGN, HELLO, REASONS, noise
from tests.corpus.sessions import Recorded, sessions

from pointsman.wire import dtls
from pointsman.wire.records import Fault, Form, judge

EVERY = [Form(walks, new) for walks in (False, True) for new in (False, True)]
FAULTS = {"not_dtls": Fault.NOT_DTLS, "bad_length": Fault.BAD_LENGTH, "bad_epoch": Fault.BAD_EPOCH}


def fault_of(datagram: bytes, form: Form) -> Fault | None:
    return judge(datagram, form)[0]


OLD = [form for form in EVERY if not form.dtls13]


def test_the_corpus_holds_what_it_should() -> None:
    kinds = {datagram[:3] for session in sessions() for datagram in session.datagrams}
    wanted = {bytes([kind]) + b"\xfe\xfd" for kind in (20, 21, 22, 23, 25, 26)} | {b"\x16\xfe\xff"}
    assert kinds >= wanted
    assert {kind[0] >> 5 for kind in kinds} == {0, 1}  # and unified headers
    assert sum(len(session.datagrams) for session in sessions()) > 300
    assert {session.stack for session in sessions()} == {
        "gnutls",
        "mbedtls",
        "openssl",
        "wolfssl",
        "wolfssl-dtls13",
    }


@pytest.mark.parametrize("session", sessions(), ids=str)
def test_no_datagram_of_a_real_client_is_held_against_it(session: Recorded) -> None:
    for walks in (False, True):
        for length in (0, session.cid_length or 6):
            form = Form(walks, session.dtls13, length)
            found = [fault_of(datagram, form) for datagram in session.datagrams]
            assert found == [None] * len(session.datagrams)


@pytest.mark.parametrize("session", [each for each in sessions() if not each.dtls13], ids=str)
def test_dtls_1_2_passes_beside_dtls_1_3(session: Recorded) -> None:
    form = Form(walk=True, dtls13=True, cid_length=session.cid_length)
    assert all(fault_of(datagram, form) is None for datagram in session.datagrams)


@pytest.mark.parametrize("form", OLD, ids=["header", "record"])
def test_junk_is_held_against_its_reason(form: Form) -> None:
    for reason, junk in REASONS.items():
        for what, payload in junk.items():
            assert fault_of(payload, form) is FAULTS[reason], what


@pytest.mark.parametrize("session", sessions(), ids=str)
def test_a_real_datagram_cut_short_is_none(session: Recorded) -> None:
    """At the record level, unless it is cut between two records, or behind what has no length."""
    form = Form(walk=True, dtls13=session.dtls13, cid_length=session.cid_length or 6)
    for datagram in session.datagrams:
        whole = [end for end in range(1, len(datagram)) if fault_of(datagram[:end], form) is None]
        assert len(whole) <= datagram.count(b"\xfe\xfd") + datagram.count(b"\xfe\xff"), datagram.hex()


@pytest.mark.parametrize("form", OLD, ids=["header", "record"])
def test_random_floods_are_no_dtls(form: Form) -> None:
    assert {fault_of(payload, form) for payload in noise(1, 5000)} == {Fault.NOT_DTLS}


def _dns(source: random.Random) -> bytes:
    """A query or an answer with any id: its third byte holds QR, the opcode (0..6 are given out) and flags."""
    flags = source.choice((0, 0x80)) | source.randrange(7) << 3 | source.randrange(8)
    return source.randbytes(2) + bytes([flags]) + source.randbytes(source.randrange(9, 500))


def _ntp(source: random.Random) -> bytes:
    """Versions 1 to 4; the second byte is the stratum, at most 16, or the operation's flags of modes 6 and 7."""
    first = source.randrange(4) << 6 | source.randrange(1, 5) << 3 | source.randrange(6)
    return bytes([first, source.randrange(17)]) + source.randbytes(46)


def _coap(source: random.Random) -> bytes:
    """Version 1 in the first two bits (RFC 7252)."""
    return bytes([0x40 | source.randrange(0x40)]) + source.randbytes(source.randrange(3, 200))


def _ssdp(source: random.Random) -> bytes:
    start = source.choice((b"HTTP/1.1 200 OK\r\n", b"M-SEARCH * HTTP/1.1\r\n", b"NOTIFY * HTTP/1.1\r\n"))
    return start + source.randbytes(100)


def _memcached(source: random.Random) -> bytes:
    """Request id, sequence number, datagrams, 0: the last three are small."""
    return (
        source.randbytes(2) + struct.pack(">HHH", source.randrange(64), source.randrange(1, 64), 0) + b"stats"
    )


@pytest.mark.parametrize("form", OLD, ids=["header", "record"])
@pytest.mark.parametrize("make", [_dns, _ntp, _coap, _ssdp, _memcached])
@given(seed=st.integers(0, 1 << 64))
def test_floods_of_other_protocols_are_no_dtls(form: Form, make: object, seed: int) -> None:
    assert callable(make)
    assert fault_of(make(random.Random(seed)), form) is not None


@given(st.binary(max_size=80), st.booleans(), st.booleans(), st.integers(0, 40))
def test_any_bytes_get_an_answer(data: bytes, walks: bool, new: bool, length: int) -> None:
    fault = fault_of(data, Form(walks, new, length))
    if fault is None and not new and length:
        # The strict codec takes what passes at the record level, but for what the version says of old ClientHellos.
        assert fault_of(data, Form(cid_length=length)) is None
        if walks:
            dtls.parse_records(data, length)


@given(
    st.lists(
        st.builds(
            dtls.record,
            st.sampled_from([20, 21, 22, 23, 24]),
            st.binary(min_size=1, max_size=11),
            epoch=st.integers(0, 65535),
            sequence=st.integers(0, (1 << 48) - 1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whole_records_pass_and_a_byte_more_or_less_does_not(records: list[bytes]) -> None:
    data = b"".join(records)
    for form in EVERY:
        assert fault_of(data, form) is None
    walking = Form(walk=True)
    assert fault_of(data + b"\0", walking) is Fault.NOT_DTLS
    assert fault_of(data[:-1], walking) is Fault.BAD_LENGTH


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (dtls.record(21, b"\2\x46", version=dtls.DTLS_1_0), Fault.NOT_DTLS),
        (dtls.record(20, b"\1", epoch=1, version=dtls.DTLS_1_0), Fault.NOT_DTLS),
        (HELLO[:1] + b"\xfe\xff" + HELLO[3:], None),
        (HELLO[:1] + b"\xfe\xff" + HELLO[3:13], Fault.NOT_DTLS),
        (HELLO[:1] + b"\xfe\xfc" + HELLO[3:], Fault.NOT_DTLS),
        (dtls.application_data(epoch=0), None),
        (dtls.application_data() + HELLO, None),
        (dtls.application_data() + FOREIGN["DNS answer"], Fault.NOT_DTLS),
    ],
)
def test_the_edges(payload: bytes, fault: Fault | None) -> None:
    assert fault_of(payload, Form(walk=True)) is fault


def test_unified_headers_have_their_length_where_they_say_so() -> None:
    form = Form(walk=True, dtls13=True, cid_length=2)
    body = bytes(16)
    for first, rest in ((0x24, b"\0"), (0x2C, b"\0\0"), (0x34, b"id\0"), (0x3C, b"id\0\0")):
        whole = bytes([first]) + rest + len(body).to_bytes(2, "big") + body
        assert fault_of(whole, form) is None
        assert fault_of(whole + whole, form) is None
        assert fault_of(whole + whole[:-1], form) is Fault.BAD_LENGTH
        assert fault_of(whole + dtls.application_data(), form) is None
    assert fault_of(b"\x20\0" + body, form) is None
    assert fault_of(b"\x20\0" + body[1:], form) is Fault.BAD_LENGTH
    assert fault_of(b"\x20\0" + body, Form()) is Fault.NOT_DTLS
