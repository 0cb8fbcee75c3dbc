from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.wire import dtls
from pointsman.wire.dtls import ContentType, DtlsError, HandshakeType, Record

# UDP payloads captured from real handshakes and sessions.
#
# Mbed TLS 3.6 on both sides, PSK; the server chose the connection ID 01f9b08d8ce8, the client asked for none.
MBEDTLS_CLIENT = {
    "hello": (
        "16fefd0000000000000000005f010000530000000000000053fefd6b00a26e248356a2897ed9120f3623a0a7727c50d7"
        "3a7e62b26520099c3550f400000006c0a800a800ff01000023000d000e000c0603060105030501040304010036000100"
        "001600000017000000230000"
    ),
    "hello with cookie": (
        "16fefd0000000000000001007f010000730001000000000073fefd6b00a26e248356a2897ed9120f3623a0a7727c50d7"
        "3a7e62b26520099c3550f400206b00a26e13fb705a177716ce5ec6df8226cb7aa72aebea514c10041aa228ee590006c0"
        "a800a800ff01000023000d000e000c0603060105030501040304010036000100001600000017000000230000"
    ),
    "flight 5": (
        "16fefd000000000000000200151000000900020000000000090007636c69656e743014fefd0000000000000003000101"
        "19fefd000100000000000001f9b08d8ce8003000010000000000009956546e8548231b58bbfcd7a4d53a96e5d52afbb3"
        "bdb86f8d1fb0fe5f6b84fd93222fe9d68da5bc"
    ),
    "data": (
        "19fefd000100000000000101f9b08d8ce8002000010000000000011d38d8f706b72d5f7c1eafd677652d9c1400c940aa"
        "4bcaf9"
    ),
    "data from a new address": (
        "19fefd000100000000000301f9b08d8ce800200001000000000003958973cc466e5872a012ec3f88f106e4d7f26d5f38"
        "f0d72d"
    ),
}
MBEDTLS_SERVER = {
    "hello verify request": (
        "16fefd0000000000000000002f030000230000000000000023fefd206b00a26e13fb705a177716ce5ec6df8226cb7aa7"
        "2aebea514c10041aa228ee59"
    ),
    "server hello": (
        "16fefd000000000000000100680200005c000100000000005cfefd6b00a26eae0c3652de4c68c604f87f8cbe1fa6de1b"
        "4f1f8747ee528058f02f0b2097ace57ff64c204eb5055e07563df8e4389cd9f9b4a7eb284e83205d9ccef737c0a80000"
        "14ff01000100003600070601f9b08d8ce80017000016fefd0000000000000002000c0e0000000002000000000000"
    ),
    "finished": (
        "14fefd000000000000000300010116fefd00010000000000000028000100000000000069b99133bbeffe21929bc51a5b"
        "5749d62e36a184484c774b8c73575406a05976"
    ),
    "data": (
        "17fefd0001000000000001004c0001000000000001e23b303fab0ee8a3499ef57e6fa34f0d1cc9d4525edcb1b9ad9969"
        "158e7575e738dcfde94c0949bdbcdfd3a08af14765307f7d5881925a193934711b1ddeeb48e7420f1b"
    ),
}
# OpenSSL 3.0 on both sides, PSK, no connection IDs: its ClientHellos say DTLS 1.0 in the record header.
OPENSSL_CLIENT = {
    "hello": (
        "16feff00000000000000000074010000680000000000000068fefd6703509c7b81dab65a2d9088669d94ab2acc641b72"
        "70baebce946d1019fb04380000000400a800ff0100003a002300000016000000170000000d002a002804030503060308"
        "0708080809080a080b080408050806040105010601030303010302040205020602"
    ),
    "hello with cookie": (
        "16feff000000000000000100880100007c000100000000007cfefd6703509c7b81dab65a2d9088669d94ab2acc641b72"
        "70baebce946d1019fb04380014a5bca90b8423ec56f58e7bfa2583fcda4b0ff4ae000400a800ff0100003a0023000000"
        "16000000170000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301030204"
        "0205020602"
    ),
    "flight 5": (
        "16fefd0000000000000002001d100000110002000000000011000f436c69656e745f6964656e7469747914fefd000000"
        "000000000300010116fefd0001000000000000003099cfed96cf8295b9754d2139a006de3a94d5fcbb274a61b62a2549"
        "c06b7256c41724e9757a39dbcbe4557c6103255201"
    ),
    "data": ("17fefd0001000000000001001e99cfed96cf8295ba225560c9317cd0e1aca1f0eba9035df1266914df7b96"),
}
OPENSSL_SERVER = {
    "hello verify request": (
        "16feff00000000000000000023030000170000000000000017feff14a5bca90b8423ec56f58e7bfa2583fcda4b0ff4ae"
    ),
}
CAPTURED = {
    f"{who}: {what}": bytes.fromhex(text)
    for who, payloads in {
        "Mbed TLS client": MBEDTLS_CLIENT,
        "Mbed TLS server": MBEDTLS_SERVER,
        "OpenSSL client": OPENSSL_CLIENT,
        "OpenSSL server": OPENSSL_SERVER,
    }.items()
    for what, text in payloads.items()
}
CID = bytes.fromhex("01f9b08d8ce8")
RANDOM = bytes(range(32))


def captured(name: str) -> bytes:
    return CAPTURED[name]


@st.composite
def records(draw: st.DrawFn, cid_length: int = len(CID)) -> Record:
    kind = draw(st.sampled_from(ContentType))
    has_cid = kind is ContentType.TLS12_CID
    return Record(
        type=kind,
        version=dtls.DTLS_1_2 if has_cid else draw(st.sampled_from([dtls.DTLS_1_0, dtls.DTLS_1_2])),
        epoch=draw(st.integers(0, 0xFFFF)),
        sequence=draw(st.integers(0, (1 << 48) - 1)),
        cid=draw(st.binary(min_size=cid_length, max_size=cid_length)) if has_cid else b"",
        body=draw(st.binary(max_size=60)),
    )


# What is nearly DTLS finds more than what is random.
NEARLY = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda head, tail: head + tail,
        st.sampled_from(
            [b"\x19\xfe\xfd", b"\x16\xfe\xfd", b"\x16\xfe\xff\0\0", b"\x19\xfe\xff", b"\x17\xfe\xfd\0\1"]
        ),
        st.binary(max_size=60),
    ),
    st.builds(
        lambda payload, cut: payload[:cut], st.sampled_from(list(CAPTURED.values())), st.integers(0, 150)
    ),
    st.builds(
        lambda payload, position, byte: payload[:position] + bytes([byte]) + payload[position + 1 :],
        st.sampled_from(list(CAPTURED.values())),
        st.integers(0, 40),
        st.integers(0, 255),
    ),
)


# Captures


@pytest.mark.parametrize("name", CAPTURED)
def test_captures_parse_and_encode_to_the_same_bytes(name: str) -> None:
    parsed = dtls.parse_records(captured(name), len(CID))
    assert b"".join(record.encode() for record in parsed) == captured(name)


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("Mbed TLS client: hello", [22]),
        ("Mbed TLS client: flight 5", [22, 20, 25]),
        ("Mbed TLS client: data", [25]),
        ("Mbed TLS server: server hello", [22, 22]),
        ("Mbed TLS server: finished", [20, 22]),
        ("Mbed TLS server: data", [23]),
        ("OpenSSL client: flight 5", [22, 20, 22]),
        ("OpenSSL client: data", [23]),
    ],
)
def test_captures_hold_these_records(name: str, types: list[int]) -> None:
    assert [record.type for record in dtls.parse_records(captured(name), len(CID))] == types


def test_connection_id_of_a_capture() -> None:
    (record,) = dtls.parse_records(captured("Mbed TLS client: data from a new address"), len(CID))
    assert (record.cid, record.epoch, record.sequence, len(record.body)) == (CID, 1, 3, 32)
    assert record.version == dtls.DTLS_1_2


def test_only_data_with_a_connection_id_is_a_cid_record() -> None:
    assert {name for name, payload in CAPTURED.items() if dtls.is_cid_record(payload)} == {
        "Mbed TLS client: data",
        "Mbed TLS client: data from a new address",
    }


def test_only_the_hello_without_cookie_is_a_first_client_hello() -> None:
    assert {name for name, payload in CAPTURED.items() if dtls.is_first_client_hello(payload)} == {
        "Mbed TLS client: hello",
        "OpenSSL client: hello",
    }


def test_finished_in_a_datagram_of_its_own_is_no_first_client_hello() -> None:
    finished = dtls.parse_records(captured("OpenSSL client: flight 5"))[2].encode()
    assert (dtls.content_type(finished), dtls.epoch(finished)) == (22, 1)
    assert not dtls.is_first_client_hello(finished)


def test_mbedtls_client_hello_is_built_byte_for_byte() -> None:
    name = "Mbed TLS client: hello with cookie"
    payload = captured(name)
    assert payload == dtls.client_hello(
        payload[27:59],
        cookie=payload[61:93],
        message_seq=1,
        record_seq=1,
        extensions=[
            (13, bytes.fromhex("000c060306010503050104030401")),
            dtls.connection_id_extension(),
            (22, b""),
            (23, b""),
            (35, b""),
        ],
        cipher_suites=[0xC0A8, 0x00A8, 0x00FF],
    )


def test_openssl_client_hello_is_built_byte_for_byte() -> None:
    payload = captured("OpenSSL client: hello")
    assert payload == dtls.client_hello(
        payload[27:59],
        extensions=[(35, b""), (22, b""), (23, b""), (13, payload[-42:])],
        cipher_suites=[0x00A8, 0x00FF],
        version=dtls.DTLS_1_0,
    )


# Round trips


@given(st.lists(records(), min_size=1, max_size=4))
def test_records_survive_a_round_trip(sent: list[Record]) -> None:
    payload = b"".join(record.encode() for record in sent)
    assert dtls.parse_records(payload, len(CID)) == tuple(sent)


@given(NEARLY, st.integers(-1, 300))
def test_what_parses_encodes_to_the_same_bytes_and_nothing_else_is_raised(
    payload: bytes, cid_length: int
) -> None:
    try:
        parsed = dtls.parse_records(payload, cid_length)
    except DtlsError:
        return
    assert b"".join(record.encode() for record in parsed) == payload


@given(
    st.one_of(
        NEARLY,
        st.lists(records(), min_size=1, max_size=3).map(lambda sent: b"".join(map(Record.encode, sent))),
    )
)
def test_the_first_look_agrees_with_the_parser(payload: bytes) -> None:
    try:
        first, *_ = dtls.parse_records(payload, len(CID))
    except DtlsError:
        return
    assert dtls.content_type(payload) == first.type
    assert dtls.epoch(payload) == first.epoch
    assert dtls.is_cid_record(payload) == (first.type is ContentType.TLS12_CID)
    if first.cid:
        assert dtls.cid_field(payload).startswith(first.cid)
    # A record that is too short for a handshake header leaves the first look with the next record's
    # bytes, as it leaves the kernel.
    if len(first.body) >= dtls.HANDSHAKE_HEADER_SIZE:
        assert dtls.is_first_client_hello(payload) == (
            first.type is ContentType.HANDSHAKE
            and first.epoch == 0
            and first.body[0] == HandshakeType.CLIENT_HELLO
            and first.body[4:6] == b"\0\0"
        )


@given(NEARLY)
def test_the_first_look_raises_nothing(payload: bytes) -> None:
    dtls.content_type(payload)
    dtls.epoch(payload)
    dtls.is_cid_record(payload)
    dtls.cid_field(payload)
    dtls.is_first_client_hello(payload)


# The first look, byte by byte


def test_first_look_of_an_empty_payload() -> None:
    assert dtls.content_type(b"") is None
    assert dtls.epoch(b"") is None
    assert not dtls.is_cid_record(b"")
    assert dtls.cid_field(b"") == b""
    assert not dtls.is_first_client_hello(b"")


def test_epoch_needs_five_bytes() -> None:
    assert dtls.epoch(bytes.fromhex("19fefd0102")) == 0x0102
    assert dtls.epoch(bytes.fromhex("19fefd01")) is None


@pytest.mark.parametrize(
    "start", ["19fe", "19feff", "19fefc", "18fefd", "17fefd", "16fefd", "1afefd", "2ffefd"]
)
def test_other_first_bytes_are_no_cid_record(start: str) -> None:
    assert not dtls.is_cid_record(bytes.fromhex(start) + bytes(40))


def test_cid_record_needs_no_more_than_three_bytes() -> None:
    assert dtls.is_cid_record(bytes.fromhex("19fefd"))


def test_cid_field_is_everything_from_offset_11_on() -> None:
    assert dtls.cid_field(dtls.cid_record(CID, body=b"secret")) == CID + b"\0\x06secret"


@pytest.mark.parametrize(
    ("offset", "byte"), [(0, 0x17), (3, 1), (4, 1), (13, 2), (17, 1), (18, 1)], ids=lambda value: str(value)
)
def test_each_byte_that_decides_is_looked_at(offset: int, byte: int) -> None:
    hello = bytearray(dtls.client_hello(RANDOM))
    assert dtls.is_first_client_hello(bytes(hello))
    hello[offset] = byte
    assert not dtls.is_first_client_hello(bytes(hello))


def test_first_client_hello_needs_its_message_seq() -> None:
    hello = dtls.client_hello(RANDOM)
    assert dtls.is_first_client_hello(hello[:19])
    assert not dtls.is_first_client_hello(hello[:18])


@given(st.integers(0, 0xFFFF), st.integers(0, (1 << 48) - 1), st.sampled_from([dtls.DTLS_1_0, dtls.DTLS_1_2]))
def test_hello_is_first_by_its_message_seq_alone(message_seq: int, record_seq: int, version: bytes) -> None:
    hello = dtls.client_hello(RANDOM, message_seq=message_seq, record_seq=record_seq, version=version)
    assert dtls.is_first_client_hello(hello) == (message_seq == 0)


# Refusals of the parser


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("", "byte 0: a content type needs 1 bytes, 0 are left"),
        ("16", "byte 1: a version"),
        ("13fefd", "19 is no content type"),
        ("1afefd", "26 is no content type"),
        ("16fefc", "fe fc is no version of a HANDSHAKE record"),
        ("160303", "03 03 is no version"),
        ("19feff", "fe ff is no version of a TLS12_CID record"),
        ("17fefd0001000000000001", "byte 11: a length"),
        ("17fefd0001000000000001000401", "byte 13: a record's body needs 4 bytes, 1 are left"),
        ("17fefd00010000000000014801", "a record of 18433 bytes"),
        ("17fefd0001000000000001000001", "1 is no content type"),
        ("17fefd0001000000000001000017", "byte 14: a version"),
        ("19fefd000100000000000101f9", "byte 11: a connection ID needs 6 bytes, 2 are left"),
    ],
)
def test_parser_names_the_byte_and_the_reason(payload: str, message: str) -> None:
    with pytest.raises(DtlsError, match=message):
        dtls.parse_records(bytes.fromhex(payload), len(CID))


@pytest.mark.parametrize("cid_length", [-1, 0, 256])
def test_cid_record_needs_the_length_of_its_connection_id(cid_length: int) -> None:
    with pytest.raises(DtlsError, match=f"connection IDs of {cid_length} bytes"):
        dtls.parse_records(dtls.cid_record(CID), cid_length)


def test_wrong_length_of_the_connection_id_is_found() -> None:
    with pytest.raises(DtlsError):
        dtls.parse_records(dtls.cid_record(CID), len(CID) - 1)


# Builders


def test_application_data_and_cid_record_carry_the_given_numbers() -> None:
    assert dtls.application_data(epoch=2, seq=9, body=b"x").hex() == "17fefd0002000000000009000178"
    assert (
        dtls.cid_record(b"\x07\x08", epoch=3, seq=10, body=b"x").hex() == "19fefd000300000000000a0708000178"
    )


def test_handshake_record_is_unfragmented() -> None:
    built = dtls.handshake_record(HandshakeType.FINISHED, bytes(12), message_seq=3, record_seq=4, epoch=1)
    (record,) = dtls.parse_records(built)
    assert (record.type, record.epoch, record.sequence) == (ContentType.HANDSHAKE, 1, 4)
    assert record.body == bytes.fromhex("14 00000c 0003 000000 00000c") + bytes(12)


def test_connection_id_extension_holds_its_length() -> None:
    assert dtls.connection_id_extension() == (54, b"\0")
    assert dtls.connection_id_extension(CID) == (54, b"\x06" + CID)


def test_client_hello_without_extensions_has_no_extensions_field() -> None:
    hello = dtls.client_hello(RANDOM, session_id=b"session")
    assert hello[13 + 12 :] == dtls.DTLS_1_2 + RANDOM + b"\x07session" + b"\0" + bytes.fromhex("0002c0a80100")


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": 1 << 16},
        {"sequence": -1},
        {"sequence": 1 << 48},
        {"version": b"\xfe"},
        {"cid": b""},
        {"cid": bytes(256)},
        {"body": bytes((1 << 14) + 2049)},
        {"type": ContentType.APPLICATION_DATA},
    ],
    ids=lambda change: "".join(change),
)
def test_record_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    fine = Record(ContentType.TLS12_CID, dtls.DTLS_1_2, 1, 1, CID, b"body")
    assert fine.encode()
    with pytest.raises(DtlsError):
        replace(fine, **change).encode()  # type: ignore[arg-type]


def test_client_hello_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DtlsError, match="random of 31 bytes"):
        dtls.client_hello(bytes(31))
    with pytest.raises(DtlsError, match="session id of 33 bytes"):
        dtls.client_hello(RANDOM, session_id=bytes(33))
    with pytest.raises(DtlsError, match="length of a vector 256"):
        dtls.client_hello(RANDOM, cookie=bytes(256))
    with pytest.raises(DtlsError, match="message_seq 65536"):
        dtls.client_hello(RANDOM, message_seq=1 << 16)
    with pytest.raises(DtlsError, match="cipher suite 65536"):
        dtls.client_hello(RANDOM, cipher_suites=[1 << 16])
