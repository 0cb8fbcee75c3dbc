"""CoAP messages (RFC 7252) as far as a health check goes: a ping, a GET, and what answers them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

EMPTY = 0
GET = 1
URI_PATH = 11
URI_QUERY = 15


class CoapError(ValueError):
    """Bytes that are no CoAP message."""


class MessageType(IntEnum):
    CONFIRMABLE = 0
    NON_CONFIRMABLE = 1
    ACKNOWLEDGEMENT = 2
    RESET = 3


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the options (RFC 7252, section 3)."""

    type: MessageType
    code: int
    id: int
    token: bytes = b""

    def encode(self) -> bytes:
        first = 1 << 6 | self.type << 4 | len(self.token)
        return bytes((first, self.code)) + self.id.to_bytes(2, "big") + self.token


def parse_header(data: bytes) -> Header:
    """Read a message up to its options; raises ``CoapError``."""
    if len(data) < 4:
        raise CoapError(f"{len(data)} bytes, a message has 4 at least")
    length = data[0] & 0x0F
    if data[0] >> 6 != 1:
        raise CoapError(f"version {data[0] >> 6}, there is 1 only")
    if length > 8 or len(data) < 4 + length:
        raise CoapError(f"a token of {length} bytes in a message of {len(data)}")
    if data[1] == EMPTY and len(data) > 4:
        raise CoapError("an empty message with something in it")  # RFC 7252, section 4.1
    kind = MessageType(data[0] >> 4 & 3)
    return Header(kind, data[1], int.from_bytes(data[2:4], "big"), data[4 : 4 + length])


def get(number: int, token: bytes, path: Iterable[str], query: Iterable[str] = ()) -> bytes:
    """Write a confirmable GET; parts of path and query have 255 bytes at most."""
    options = [(URI_PATH, part.encode()) for part in path] + [(URI_QUERY, part.encode()) for part in query]
    written = [Header(MessageType.CONFIRMABLE, GET, number, token).encode()]
    before = 0
    for option, value in options:
        first, extended = (len(value), b"") if len(value) < 13 else (13, bytes((len(value) - 13,)))
        written.append(bytes(((option - before) << 4 | first,)) + extended + value)
        before = option
    return b"".join(written)


def code_text(code: int) -> str:
    """A code as people write it: 2.05 (RFC 7252, section 5.2)."""
    return f"{code >> 5}.{code & 31:02d}"
