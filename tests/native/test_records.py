"""records.h and the codec say the same of every datagram, and of every cookie."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from tests.native.library import Native

from pointsman.wire import dtls
from pointsman.wire.records import Fault, Form, Kind, cookie_brought, cookie_given, judge

WALK, DTLS13 = 1, 2
COOKIES = st.binary(max_size=40)


@st.composite
def one_record(draw: st.DrawFn) -> bytes:
    """Mostly a record as it should be, of any kind."""
    body = draw(st.binary(min_size=1, max_size=40))
    epoch = draw(st.integers(0, 2))
    cid = draw(st.binary(min_size=1, max_size=8))
    return draw(
        st.one_of(
            st.just(dtls.cid_record(cid, epoch=epoch, body=body)),
            st.sampled_from([20, 21, 22, 23, 24]).map(lambda kind: dtls.record(kind, body, epoch=epoch)),
            st.builds(
                dtls.client_hello,
                st.just(bytes(32)),
                cookie=COOKIES,
                message_seq=st.integers(0, 2),
                version=st.sampled_from([dtls.DTLS_1_0, dtls.DTLS_1_2]),
            ),
            st.integers(0x20, 0x3F).map(lambda first: bytes((first,)) + cid + b"\0\x11" + body),
            st.just(dtls.record(21, body).replace(b"\x15", b"\x1a", 1)),
        )
    )


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Records in a row, some of them spoiled."""
    whole = b"".join(draw(st.lists(one_record(), max_size=4)))
    for _ in range(draw(st.integers(0, 2)) if whole else 0):
        at = draw(st.integers(0, len(whole) - 1))
        whole = whole[:at] + draw(st.binary(max_size=2)) + whole[at + draw(st.integers(0, 2)) :]
    return draw(st.one_of(st.just(whole), st.binary(max_size=60), st.just(whole * 12)))


@given(
    datagrams(), st.booleans(), st.booleans(), st.one_of(st.just(0), st.integers(0, 255)), st.integers(0, 60)
)
@example(b"", True, True, 0, 0)
@example(dtls.application_data(body=b"a") * 33 + b"junk", True, False, 0, 0)
@example(dtls.client_hello(bytes(32))[:3] + b"\0\1" + dtls.client_hello(bytes(32))[5:], True, False, 0, 0)
def test_a_datagram_is_judged_as_by_the_codec(
    native: Native, datagram: bytes, walk: bool, dtls13: bool, cid_length: int, missing: int
) -> None:
    flags = (WALK if walk else 0) | (DTLS13 if dtls13 else 0)
    form = Form(walk, dtls13, cid_length)
    fault, kinds = judge(datagram, form)
    assert native.judges(datagram, len(datagram), flags, cid_length) == (fault.value if fault else 0, kinds)
    # A first fragment, of which the rest is missing.
    fault, kinds = judge(datagram, form, len(datagram) + missing)
    found = native.judges(datagram, len(datagram) + missing, flags, cid_length)
    assert found == (fault.value if fault else 0, kinds)


@given(COOKIES, COOKIES, st.integers(0, 90), st.integers(0, 3))
def test_cookies_are_those_that_the_codec_reads(
    native: Native, cookie: bytes, session: bytes, cut: int, spoiled: int
) -> None:
    hello = dtls.client_hello(bytes(32), session_id=session[:32], cookie=cookie, message_seq=1)
    request = dtls.handshake_record(3, dtls.DTLS_1_0 + bytes((len(cookie),)) + cookie, version=dtls.DTLS_1_0)
    for name, reader, whole in (
        ("cookie_brought", cookie_brought, hello),
        ("cookie_given", cookie_given, request),
    ):
        for payload in (whole, whole[:cut], bytes((spoiled,)) + whole[1:], whole[:59] + b"\xff" + whole[60:]):
            read = reader(payload)
            assert native.cookie(name, payload) == (None if read is None else read.ljust(16, b"\0"))
    if len(cookie) >= 8:
        assert cookie_brought(hello) == cookie_given(request) == cookie[: 16 if len(cookie) >= 16 else 8]


def test_every_record_of_a_good_flight_is_what_it_is() -> None:
    flight = dtls.handshake_record(16, bytes(9), message_seq=2) + dtls.cid_record(b"abc")
    assert judge(flight, Form(walk=True, cid_length=3)) == (None, Kind(0))
    assert judge(dtls.client_hello(bytes(32), message_seq=1), Form())[1] == Kind.HELLO | Kind.ANSWERS
    assert judge(dtls.cid_record(b"abc"), Form()) == (None, Kind.CID | Kind.PROTECTED)
    assert judge(dtls.cid_record(b"abc", epoch=0), Form())[0] is Fault.BAD_EPOCH
