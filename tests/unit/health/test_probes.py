"""What probes say, and what they make of answers, hostile ones too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.health.probes.coap import CoapProbe
from pointsman.health.probes.connect import ConnectProbe
from pointsman.health.probes.datagram import DatagramProbe
from pointsman.health.probes.dtls import DtlsProbe
from pointsman.health.probes.http import LARGEST_ANSWER, LARGEST_BODY, MOST_INFORMATIONAL, HttpProbe
from pointsman.health.probes.step import LONGEST_SAID, Outcome, Probe, Step, plain
from pointsman.model.health import CoapTerms, CodeRange, HttpTerms, UdpTerms, Wildcards
from pointsman.wire import dtls
from pointsman.wire.coap import Header, MessageType

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOKEN = b"\1\2\3\4"


def ends(probe: Probe, answers: Iterable[bytes]) -> Outcome | None:
    """The outcome after these answers, of which none may raise."""
    step = probe.start()
    for answer in answers:
        if step.outcome is None:
            step = probe.received(answer)
    return step.outcome


def http(answers: Iterable[bytes], terms: HttpTerms | None = None) -> tuple[bool | None, str]:
    outcome = ends(HttpProbe(terms or HttpTerms(), "10.0.0.1:80"), answers)
    assert outcome is not None
    return outcome.ok, outcome.said


def test_a_connection_is_all_that_tcp_asks_for() -> None:
    assert ConnectProbe().start().outcome == Outcome(ok=True, said="connected")


def test_http_asks_for_its_path_and_host_and_no_more() -> None:
    sent = HttpProbe(HttpTerms(path="/h?a"), "10.0.0.1:80").start().send
    assert sent == (
        b"GET /h?a HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: pointsman\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert b"\r\nHost: www.example.com\r\n" in HttpProbe(HttpTerms(host="www.example.com"), "x").start().send
    assert b"Content-Length: 0\r\n" in HttpProbe(HttpTerms(method="POST"), "x").start().send


def test_http_goes_by_the_code() -> None:
    assert http([OK]) == (True, "200 OK")
    assert http([b"HTTP/1.1 503 Down\r\n\r\n"]) == (False, "503 Down, not 200-299")
    moved = HttpTerms(codes=(CodeRange(200, 200), CodeRange(301, 302)))
    assert http([b"HTTP/1.0 302 Found\r\n\r\n"], moved) == (True, "302 Found")
    assert http([b"HTTP/1.0 303 See\r\n\r\n"], moved) == (False, "303 See, not 200, 301-302")


def test_http_passes_over_what_comes_before_the_answer() -> None:
    assert http([b"HTTP/1.1 103 Early Hints\r\n\r\n", OK]) == (True, "200 OK")


def test_http_looks_for_its_expression_in_the_body() -> None:
    assert http([OK], HttpTerms(body="^ok$"))[0] is True
    assert http([OK], HttpTerms(body="^o$")) == (
        False,
        "200 OK, body of 2 bytes without what is expected",
    )
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    assert http([bytes((one,)) for one in chunked], HttpTerms(body="^ok$"))[0] is True
    assert http([b"HTTP/1.0 200 OK\r\n\r\nok", b""], HttpTerms(body="^ok$"))[0] is True


def test_http_gives_up_an_expression_that_runs_for_ever_on_a_body() -> None:
    body = b"a" * 64 + b"b"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n" + body
    assert http([answer], HttpTerms(body="^(a|a)*$")) == (
        False,
        "200 OK, body on which the expression runs for more than 0.1 s",
    )


def test_http_compares_the_digest_of_the_whole_body() -> None:
    assert http([OK], HttpTerms(digest=sha256(b"ok").digest()))[0] is True
    assert http([OK], HttpTerms(digest=sha256(b"o").digest()))[0] is False


def test_http_reads_no_body_for_ever() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert http([head, *[bytes(65536)] * (LARGEST_BODY // 65536 + 1)], HttpTerms(body="x")) == (
        False,
        "200 OK, body above 1 MiB",
    )


def test_http_reads_no_chunks_for_ever() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"1\r\nx\r\n" * 10_000
    enough = LARGEST_ANSWER // len(chunks) + 1
    assert http([head, *[chunks] * enough], HttpTerms(body="y")) == (
        False,
        f"200 OK in more than {LARGEST_ANSWER} bytes",
    )


def test_http_waits_for_no_answer_behind_many_that_are_none() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert http([hint] * MOST_INFORMATIONAL + [OK]) == (True, "200 OK")
    assert http([hint] * 100 + [OK]) == (False, "more than 8 informational answers")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([b""], "closed"),
        ([b"220 mail.example.com ESMTP\r\n\r\n"], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", b""], "closed"),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"x"], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40000], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], "not HTTP"),
    ],
)
def test_http_fails_where_no_whole_answer_comes(answers: list[bytes], said: str) -> None:
    ok, words = http(answers, HttpTerms(body="x"))
    assert ok is False
    assert said in words


def wild(text: str) -> Wildcards:
    return Wildcards(
        tuple(tuple(None if one == "?" else ord(one) for one in piece) for piece in text.split("*"))
    )


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("pong", [b"pong"], [b"", b"pon", b"pongs", b"xpong"]),
        ("p?ng*", [b"ping", b"pong\0\n"], [b"png", b"xping"]),
        ("*", [b"", b"x\n"], []),
        ("*b", [b"b", b"ab"], [b"ba", b""]),
        ("a*a", [b"aa", b"aba"], [b"a"]),
        ("*ab*ab*", [b"abab", b"xabyabz"], [b"ab", b"aab"]),
        ("", [b""], [b"x"]),
    ],
)
def test_udp_takes_the_answers_of_its_form(pattern: str, matching: list[bytes], others: list[bytes]) -> None:
    for answers, expected in ((matching, True), (others, False)):
        for answer in answers:
            outcome = ends(DatagramProbe(UdpTerms(b"x", wild(pattern))), [answer])
            assert outcome is not None
            assert outcome.ok is expected, answer
    assert ends(DatagramProbe(UdpTerms(b"x")), [b""]) == Outcome(ok=True, said="an answer of 0 bytes")


@given(
    st.text("ab?*", max_size=12), st.binary(max_size=12).map(lambda data: bytes(97 + one % 2 for one in data))
)
def test_wildcards_match_what_regular_expressions_do(pattern: str, data: bytes) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(one, one) for one in pattern).encode()
    assert wild(pattern).matches(data) is bool(re.fullmatch(expression, data, re.DOTALL))


def coap(terms: CoapTerms | None, *answers: bytes) -> Outcome | None:
    return ends(CoapProbe(terms, 7, TOKEN), answers)


def test_a_coap_ping_is_answered_by_its_reset_alone() -> None:
    assert CoapProbe(None, 7, TOKEN).start().send == bytes.fromhex("40000007")
    assert coap(None, bytes.fromhex("70000007")) == Outcome(ok=True, said="reset, which answers a ping")
    assert coap(None, bytes.fromhex("70000008")) is None
    assert coap(None, bytes.fromhex("60000007")) is None


def test_a_coap_get_goes_by_the_code() -> None:
    terms = CoapTerms(("a",))
    answer = Header(MessageType.ACKNOWLEDGEMENT, 0x45, 7, TOKEN).encode() + b"\xffbody"
    assert coap(terms, answer) == Outcome(ok=True, said="2.05")
    missing = Header(MessageType.ACKNOWLEDGEMENT, 0x84, 7, TOKEN).encode()
    assert coap(terms, missing) == Outcome(ok=False, said="4.04, not 2.05")
    assert coap(terms, bytes.fromhex("70000007")) == Outcome(ok=False, said="reset")
    other = Header(MessageType.ACKNOWLEDGEMENT, 0x45, 7, b"x").encode()
    assert coap(terms, other, Header(MessageType.ACKNOWLEDGEMENT, 0x45, 8, TOKEN).encode()) is None


def test_a_coap_answer_may_come_by_itself_and_is_acknowledged() -> None:
    probe = CoapProbe(CoapTerms(("a",)), 7, TOKEN)
    probe.start()
    assert probe.received(bytes.fromhex("60000007")) == Step()
    step = probe.received(Header(MessageType.CONFIRMABLE, 0x45, 99, TOKEN).encode())
    assert step.outcome == Outcome(ok=True, said="2.05")
    assert step.send == bytes.fromhex("60000063")


def hello(*answers: bytes) -> Outcome | None:
    return ends(DtlsProbe(bytes(32)), answers)


def test_dtls_begins_a_handshake_that_any_server_may_answer() -> None:
    sent = DtlsProbe(bytes(32)).start().send
    assert dtls.is_first_client_hello(sent)
    assert len(dtls.parse_records(sent)) == 1


def test_dtls_is_answered_by_a_cookie_or_a_server_hello() -> None:
    cookie = dtls.handshake_record(3, b"\xfe\xff\x02ab", version=dtls.DTLS_1_0)
    assert hello(cookie) == Outcome(ok=True, said="HelloVerifyRequest")
    probe = DtlsProbe(bytes(32))
    probe.start()
    step = probe.received(dtls.handshake_record(2, bytes(40)))
    assert step.outcome == Outcome(ok=True, said="ServerHello")
    (alert,) = dtls.parse_records(step.send)
    assert (alert.type, alert.body) == (dtls.ContentType.ALERT, b"\x02\x5a")


def test_dtls_fails_by_an_alert_and_by_what_is_none() -> None:
    assert hello(dtls.record(21, b"\x02\x28")) == Outcome(ok=False, said="alert 40")
    assert hello(dtls.handshake_record(1, b"")) is not None
    outcome = hello(b"pong")
    assert outcome is not None
    assert outcome.said.startswith("not DTLS")
    assert hello(dtls.application_data(epoch=1)) is None


PROBES: list[Callable[[], Probe]] = [
    lambda: HttpProbe(HttpTerms(body="(a|b)c"), "x"),
    lambda: DatagramProbe(UdpTerms(b"", wild("a*b*c"))),
    lambda: CoapProbe(None, 7, TOKEN),
    lambda: CoapProbe(CoapTerms(("a",)), 7, TOKEN),
    lambda: DtlsProbe(bytes(32)),
]
PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            OK, b"HTTP/1.1 ", b"200 OK\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffffff\r\n",
            b"Content-Length: -1\r\n", b"HTTP/1.1 101 x\r\n\r\n", b"\0", b"Content-Length: 99999999999999999999\r\n",
            bytes.fromhex("70000007"), bytes.fromhex("64450007") + TOKEN, bytes.fromhex("4f"),
            dtls.handshake_record(2, b""), dtls.handshake_record(3, b"")[:14], dtls.record(21, b"\x02"),
            dtls.record(22, b""),
        ]
    ),
)  # fmt: skip


@pytest.mark.parametrize("make", PROBES)
@given(answers=st.lists(PIECES, max_size=6))
def test_hostile_answers_never_raise(make: Callable[[], Probe], answers: list[bytes]) -> None:
    outcome = ends(make(), [*answers, b""])
    assert outcome is None or outcome.said.isprintable()


@given(st.one_of(st.binary(), st.text()))
def test_what_a_node_said_is_shown_in_one_short_line(text: bytes | str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) <= LONGEST_SAID
