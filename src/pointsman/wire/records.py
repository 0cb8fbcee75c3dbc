"""The form of a datagram's DTLS records, as a filter reads it; bpf/lib/records.h means the same.

Unlike ``dtls.parse_records`` it knows a fault's kind, DTLS 1.3, and connection IDs of unknown length.
RFC 6347 section 4.1, RFC 9146 section 4, RFC 9147 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag

from pointsman.wire.dtls import DTLS_1_0, DTLS_1_2, MAX_BODY_SIZE, ContentType, HandshakeType

MOST = 32
"""Records of a datagram that are looked at; further ones pass, as do those that begin behind ``REACH``."""
REACH = 0x3FFF
SEALED_LEAST = 16
"""Bytes of a DTLS 1.3 ciphertext at least (RFC 9147, section 4.2.3)."""
ACK = 26
"""The content type that DTLS 1.3 adds (RFC 9147, section 7)."""
COOKIE_LEAST, COOKIE_MOST = 8, 16
"""Bytes of a cookie that prove something, and those that are looked at."""
HEADER = 13


class Fault(Enum):
    """What is held against a datagram; the values are those of enum record_fault."""

    NOT_DTLS = 1
    BAD_LENGTH = 2
    BAD_EPOCH = 3


class Kind(IntFlag):
    """What a record is: a ClientHello, one that answers a HelloVerifyRequest, with a connection ID, encrypted."""

    HELLO = 1
    ANSWERS = 2
    CID = 4
    PROTECTED = 8


NOTHING = Kind(0)


@dataclass(frozen=True, slots=True)
class Form:
    """What a filter wants of records; ``cid_length`` 0 is unknown. ``walk``: every record, not just the first."""

    walk: bool = False
    dtls13: bool = False
    cid_length: int = 0


@dataclass(frozen=True, slots=True)
class _Record:
    """``size`` 0: where it ends cannot be told."""

    kind: Kind = NOTHING
    size: int = 0
    fault: Fault | None = None


def judge(datagram: bytes, form: Form, size: int | None = None) -> tuple[Fault | None, Kind]:
    """Say what is wrong with a datagram, None for nothing, and what its first record is.

    ClientHellos further on are told of too. ``size`` is the datagram's by its UDP header, of which ``datagram`` may
    be the first fragment.
    """
    total = len(datagram) if size is None else size
    kinds, at = NOTHING, 0
    for number in range(MOST if form.walk else 1):
        if number and (at >= total or at > REACH):
            break
        record = _read(datagram[at:total], total - at, form)
        if not number:
            kinds = record.kind
        if record.fault is not None:
            return record.fault, kinds
        kinds |= record.kind & (Kind.HELLO | Kind.ANSWERS)
        if not record.size:
            break
        at += record.size
    return None, kinds


def _read(held: bytes, rest: int, form: Form) -> _Record:
    if not held or (held[0] & 0xE0 == 0x20 and not form.dtls13):
        return _Record(fault=Fault.NOT_DTLS)
    if held[0] & 0xE0 == 0x20:
        return _unified(held, rest, form)
    if not 20 <= held[0] <= (ACK if form.dtls13 else ContentType.TLS12_CID):
        return _Record(fault=Fault.NOT_DTLS)
    kind = _hello(held)
    if held[1:3] != DTLS_1_2 and not (held[1:3] == DTLS_1_0 and kind):
        return _Record(kind, fault=Fault.NOT_DTLS)
    if len(held) < HEADER:
        return _Record(kind, fault=Fault.BAD_LENGTH)
    epoch = int.from_bytes(held[3:5], "big")
    kind |= Kind.PROTECTED if epoch else NOTHING
    size = 0
    has_cid = held[0] == ContentType.TLS12_CID
    if has_cid:
        kind |= Kind.CID
    if has_cid and not form.cid_length:
        if rest < HEADER + 1:
            return _Record(kind, fault=Fault.BAD_LENGTH)
    else:
        header = HEADER + (form.cid_length if has_cid else 0)
        length = int.from_bytes(held[header - 2 : header], "big")
        if len(held) < header or not 1 <= length <= min(MAX_BODY_SIZE, rest - header):
            return _Record(kind, fault=Fault.BAD_LENGTH)
        size = header + length
    if (has_cid and not epoch) or (held[0] == ContentType.HANDSHAKE and epoch and _shows_hello(held)):
        return _Record(kind, size, Fault.BAD_EPOCH)
    return _Record(kind, size)


def _hello(held: bytes) -> Kind:
    if len(held) < HEADER + 1 or held[0] != ContentType.HANDSHAKE or held[3:5] != b"\0\0":
        return NOTHING
    if held[13] != HandshakeType.CLIENT_HELLO:
        return NOTHING
    return Kind.HELLO | (Kind.ANSWERS if len(held) >= 19 and held[17:19] != b"\0\0" else NOTHING)


def _shows_hello(held: bytes) -> bool:
    """Whether a ClientHello's type and version stand in the clear, which no ciphertext has but by chance."""
    return held[13:14] == bytes((HandshakeType.CLIENT_HELLO,)) and held[25:27] in (DTLS_1_2, DTLS_1_0)


def _unified(held: bytes, rest: int, form: Form) -> _Record:
    """001CSLEE, [connection ID], sequence number, [length], ciphertext (RFC 9147, section 4)."""
    first = held[0]
    header = 1 + (2 if first & 8 else 1) + (2 if first & 4 else 0)
    kind = Kind.PROTECTED | (Kind.CID if first & 16 else NOTHING)
    if first & 16 and not form.cid_length:
        short = rest < header + 1 + SEALED_LEAST
        return _Record(kind, fault=Fault.BAD_LENGTH if short else None)
    if first & 16:
        header += form.cid_length
    if len(held) < header or rest - header < SEALED_LEAST:
        return _Record(kind, fault=Fault.BAD_LENGTH)
    if not first & 4:
        return _Record(kind, rest)
    length = int.from_bytes(held[header - 2 : header], "big")
    if not SEALED_LEAST <= length <= min(MAX_BODY_SIZE, rest - header):
        return _Record(kind, fault=Fault.BAD_LENGTH)
    return _Record(kind, header + length)


def cookie_given(datagram: bytes) -> bytes | None:
    """The start of the cookie that a HelloVerifyRequest hands out, None of anything else."""
    if len(datagram) < 28 or datagram[0] != ContentType.HANDSHAKE or datagram[3:5] != b"\0\0":
        return None
    return _cookie(datagram[27:]) if datagram[13] == HandshakeType.HELLO_VERIFY_REQUEST else None


def cookie_brought(datagram: bytes) -> bytes | None:
    """The start of the cookie that a ClientHello brings back, None of anything else."""
    if len(datagram) < 60 or datagram[0] != ContentType.HANDSHAKE or datagram[3:5] != b"\0\0":
        return None
    if datagram[13] != HandshakeType.CLIENT_HELLO or datagram[59] > 32 or any(datagram[19:22]):
        return None
    return _cookie(datagram[60 + datagram[59] :])


def _cookie(held: bytes) -> bytes | None:
    if not held or held[0] < COOKIE_LEAST or len(held) < 1 + COOKIE_LEAST:
        return None
    whole = held[0] >= COOKIE_MOST and len(held) > COOKIE_MOST
    return held[1 : 1 + (COOKIE_MOST if whole else COOKIE_LEAST)]
