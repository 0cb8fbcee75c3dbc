"""DTLS 1.2 records as a balancer sees them: what stands in the clear, and no cryptography.

Two readers, for two purposes. ``parse_records`` is strict and takes a whole datagram apart. The
first-look functions are lenient, and say for any bytes exactly what a rule of the data plane says that
looks at the same offsets; ``explain`` and the tests rely on that.

Record (RFC 6347, section 4.1): type(1) version(2) epoch(2) sequence number(6) length(2) body. With a
connection ID (RFC 9146, section 4) of n bytes, which the wire does not say, that stands before the
length: type(1) version(2) epoch(2) sequence number(6) cid(n) length(2) body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

RECORD_HEADER_SIZE = 13
"""Bytes before a record's body, without a connection ID."""

CID_OFFSET = 11
"""Where the connection ID of a datagram's first record starts, in bytes from the start of the UDP payload."""

HANDSHAKE_HEADER_SIZE = 12
"""Bytes before a message's body: type(1) length(3) message_seq(2) fragment_offset(3) fragment_length(3)."""

MAX_BODY_SIZE = (1 << 14) + 2048
"""The longest body of a protected record (RFC 5246, section 6.2.3)."""

MAX_CID_LENGTH = 255
"""The longest connection ID, whose length is one byte in the handshake (RFC 9146, section 3)."""

DTLS_1_0 = b"\xfe\xff"
"""RFC 4347. Clients may write it in the record header of any ClientHello, servers of a HelloVerifyRequest."""

DTLS_1_2 = b"\xfe\xfd"
"""RFC 6347, section 4.1; DTLS 1.3 handshakes begin with it too (RFC 9147, section 5.3)."""

CONNECTION_ID_EXTENSION = 54
"""The ``connection_id`` extension (RFC 9146, section 3)."""


class DtlsError(ValueError):
    """Bytes that are no DTLS 1.2 records, or values that fit into none."""


class ContentType(IntEnum):
    """Record content types (RFC 5246, section 6.2.1; RFC 6520; RFC 9146, section 4)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    HEARTBEAT = 24
    TLS12_CID = 25


class HandshakeType(IntEnum):
    """The handshake messages that a balancer or its tests tell apart (RFC 6347, section 4.3.2)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20


@dataclass(frozen=True, slots=True)
class Record:
    """One record; ``cid`` is empty unless the type is ``TLS12_CID``, ``version`` is as on the wire."""

    type: ContentType
    version: bytes
    epoch: int
    sequence: int
    cid: bytes
    body: bytes

    def encode(self) -> bytes:
        """Write the record; raises ``DtlsError`` where a field does not fit."""
        return record(
            self.type,
            self.body,
            epoch=self.epoch,
            sequence=self.sequence,
            cid=self.cid,
            version=self.version,
        )


class Cursor:
    """Take bytes from the front of a buffer; raise ``DtlsError`` for what is not there."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    @property
    def position(self) -> int:
        return self._position

    def take(self, size: int, what: str) -> bytes:
        end = self._position + size
        if end > len(self._data):
            left = len(self._data) - self._position
            raise DtlsError(f"byte {self._position}: {what} needs {size} bytes, {left} are left")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "big")


def parse_records(payload: bytes, cid_length: int = 0) -> tuple[Record, ...]:
    """Take a UDP payload apart into its records.

    ``cid_length`` is the length in bytes of the connection ID that the receiver chose; with 0, the
    default, a ``TLS12_CID`` record is an error, since a connection ID of no length is never written (RFC
    9146, section 3).
    Raises ``DtlsError`` unless the payload is one or more whole records and nothing else.
    """
    cursor = Cursor(payload)
    records = [_parse_record(cursor, cid_length)]
    while cursor:
        records.append(_parse_record(cursor, cid_length))
    return tuple(records)


def _parse_record(cursor: Cursor, cid_length: int) -> Record:
    start = cursor.position
    number = cursor.number(1, "a content type")
    try:
        kind = ContentType(number)
    except ValueError:
        raise DtlsError(f"byte {start}: {number} is no content type of DTLS 1.2") from None
    version = cursor.take(2, "a version")
    if version != DTLS_1_2 and (version != DTLS_1_0 or kind is ContentType.TLS12_CID):
        raise DtlsError(f"byte {start + 1}: {version.hex(' ')} is no version of a {kind.name} record")
    epoch = cursor.number(2, "an epoch")
    sequence = cursor.number(6, "a sequence number")
    cid = b""
    if kind is ContentType.TLS12_CID:
        if not 1 <= cid_length <= MAX_CID_LENGTH:
            raise DtlsError(f"byte {start}: a TLS12_CID record, and connection IDs of {cid_length} bytes")
        cid = cursor.take(cid_length, "a connection ID")
    length = cursor.number(2, "a length")
    if length > MAX_BODY_SIZE:
        raise DtlsError(f"byte {start}: a record of {length} bytes, {MAX_BODY_SIZE} are the most")
    return Record(kind, version, epoch, sequence, cid, cursor.take(length, "a record's body"))


# The first look. Each reads fixed offsets; where the payload ends before them, the answer is no, as a
# rule of the kernel that cannot load its bytes does not match.


def content_type(payload: bytes) -> int | None:
    """Read the first byte, whatever it is; None of an empty payload."""
    return payload[0] if payload else None


def epoch(payload: bytes) -> int | None:
    """Read the first record's epoch from offset 3 on; None of a payload that is too short."""
    return int.from_bytes(payload[3:5], "big") if len(payload) >= 5 else None


def is_cid_record(payload: bytes) -> bool:
    """Tell whether the first record is ``TLS12_CID`` of DTLS 1.2: 19 fe fd (RFC 9146, section 4)."""
    return payload[:3] == b"\x19\xfe\xfd"


def cid_field(payload: bytes) -> bytes:
    """Cut off what stands before the connection ID; where that ends, the datagram does not say."""
    return payload[CID_OFFSET:]


def is_first_client_hello(payload: bytes) -> bool:
    """Tell whether the payload starts a new handshake: a ClientHello of epoch 0 with message_seq 0.

    The ClientHello that answers a HelloVerifyRequest has message_seq 1 (RFC 6347, section 4.2.2). Any
    version will do, and of a fragmented ClientHello every fragment is first.
    """
    return (
        len(payload) >= 19
        and payload[0] == ContentType.HANDSHAKE
        and payload[3:5] == b"\0\0"
        and payload[13] == HandshakeType.CLIENT_HELLO
        and payload[17:19] == b"\0\0"
    )


# Builders, for the tests and the lab.


def record(
    kind: int,
    body: bytes,
    *,
    epoch: int = 0,
    sequence: int = 0,
    cid: bytes = b"",
    version: bytes = DTLS_1_2,
) -> bytes:
    """Write one record; ``cid`` is for ``TLS12_CID`` records alone.

    Raises ``DtlsError`` where a value does not fit its field.
    """
    if len(version) != 2:
        raise DtlsError(f"a version of {len(version)} bytes, it has 2")
    if (kind == ContentType.TLS12_CID) != bool(cid):
        raise DtlsError(f"content type {kind} and a connection ID of {len(cid)} bytes")
    if len(cid) > MAX_CID_LENGTH:
        raise DtlsError(f"a connection ID of {len(cid)} bytes, {MAX_CID_LENGTH} are the most")
    if len(body) > MAX_BODY_SIZE:
        raise DtlsError(f"a record of {len(body)} bytes, {MAX_BODY_SIZE} are the most")
    return b"".join(
        (
            _field(kind, 1, "content type"),
            version,
            _field(epoch, 2, "epoch"),
            _field(sequence, 6, "sequence number"),
            cid,
            _field(len(body), 2, "length"),
            body,
        )
    )


def cid_record(cid: bytes, *, epoch: int = 1, seq: int = 1, body: bytes = bytes(32)) -> bytes:
    """Write a ``TLS12_CID`` record; ``body`` stands for the ciphertext (RFC 9146, section 4)."""
    return record(ContentType.TLS12_CID, body, epoch=epoch, sequence=seq, cid=cid)


def application_data(*, epoch: int = 1, seq: int = 1, body: bytes = bytes(32)) -> bytes:
    """Write an application data record without connection ID; ``body`` stands for the ciphertext."""
    return record(ContentType.APPLICATION_DATA, body, epoch=epoch, sequence=seq)


def handshake_record(
    kind: int,
    body: bytes,
    *,
    message_seq: int = 0,
    record_seq: int = 0,
    epoch: int = 0,
    version: bytes = DTLS_1_2,
) -> bytes:
    """Write one unfragmented handshake message in a record of its own (RFC 6347, section 4.2.2).

    Raises ``DtlsError`` where a value does not fit its field.
    """
    length = _field(len(body), 3, "length of a handshake message")
    message = b"".join(
        (
            _field(kind, 1, "handshake type"),
            length,
            _field(message_seq, 2, "message_seq"),
            bytes(3),
            length,
            body,
        )
    )
    return record(ContentType.HANDSHAKE, message, epoch=epoch, sequence=record_seq, version=version)


def client_hello(
    random: bytes,
    session_id: bytes = b"",
    cookie: bytes = b"",
    message_seq: int = 0,
    record_seq: int = 0,
    extensions: Sequence[tuple[int, bytes]] = (),
    *,
    cipher_suites: Sequence[int] = (0xC0A8,),
    version: bytes = DTLS_1_2,
) -> bytes:
    """Write a ClientHello in a record of its own (RFC 6347, section 4.2.1).

    ``random`` has 32 bytes; ``extensions`` are (type, data) pairs; ``version`` is the record header's,
    the message's is DTLS 1.2. The one cipher suite by default is TLS_PSK_WITH_AES_128_CCM_8.
    Raises ``DtlsError`` where a value does not fit its field.
    """
    if len(random) != 32:
        raise DtlsError(f"a random of {len(random)} bytes, it has 32")
    if len(session_id) > 32:
        raise DtlsError(f"a session id of {len(session_id)} bytes, 32 are the most")
    suites = b"".join(_field(suite, 2, "cipher suite") for suite in cipher_suites)
    listed = b"".join(_field(number, 2, "extension") + _vector(data, 2) for number, data in extensions)
    body = b"".join(
        (
            DTLS_1_2,
            random,
            _vector(session_id, 1),
            _vector(cookie, 1),
            _vector(suites, 2),
            _vector(b"\0", 1),  # the null compression method
            _vector(listed, 2) if extensions else b"",
        )
    )
    return handshake_record(
        HandshakeType.CLIENT_HELLO,
        body,
        message_seq=message_seq,
        record_seq=record_seq,
        version=version,
    )


def connection_id_extension(cid: bytes = b"") -> tuple[int, bytes]:
    """Make the extension that asks the peer to write ``cid``; empty: none, but I will write yours."""
    return CONNECTION_ID_EXTENSION, _vector(cid, 1)


def _field(value: int, size: int, what: str) -> bytes:
    if not 0 <= value < 1 << 8 * size:
        raise DtlsError(f"{what} {value} is out of range 0..{(1 << 8 * size) - 1}")
    return value.to_bytes(size, "big")


def _vector(data: bytes, size: int) -> bytes:
    return _field(len(data), size, "length of a vector") + data
