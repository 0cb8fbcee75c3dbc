"""dtls: a ClientHello, which a server answers whatever its keys are."""

from __future__ import annotations

from pointsman.health.probes.step import WAIT, Step, failed, passed
from pointsman.wire.dtls import (
    ContentType,
    DtlsError,
    HandshakeType,
    client_hello,
    parse_records,
    record,
)

SUITES = (
    *(0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC0AE, 0xC0AC, 0xC023, 0xC027, 0xC009, 0xC013),
    *(0xC0A8, 0xC0A4, 0x00A8, 0x00AE, 0xC037, 0xCCAB, 0x009E, 0x009C, 0x003C, 0x002F, 0x00FF),
)
"""With certificates and with keys, so that whatever a server has, there is one of its own among them."""

_GROUPS = bytes.fromhex("0008 001d 0017 0018 0019")
_SIGNATURES = bytes.fromhex("0012 0403 0503 0603 0804 0805 0806 0401 0501 0601")
EXTENSIONS = (
    (10, _GROUPS),  # supported_groups
    (11, b"\x01\0"),  # ec_point_formats: uncompressed
    (13, _SIGNATURES),  # signature_algorithms
    (23, b""),  # extended_master_secret
)
_GIVE_UP = b"\x02\x5a"  # fatal, user_canceled


class DtlsProbe:
    """``random`` are 32 random bytes."""

    def __init__(self, random: bytes) -> None:
        self._random = random

    def start(self) -> Step:
        return Step(client_hello(self._random, extensions=EXTENSIONS, cipher_suites=SUITES))

    def received(self, data: bytes) -> Step:
        try:
            first = parse_records(data)[0]
        except DtlsError as error:
            return failed(f"not DTLS: {error}")
        if first.epoch:
            return WAIT
        kind = first.body[0] if first.type is ContentType.HANDSHAKE and first.body else None
        if kind == HandshakeType.HELLO_VERIFY_REQUEST:
            return passed("HelloVerifyRequest")
        if kind == HandshakeType.SERVER_HELLO:
            # The server waits for the rest of the handshake; this tells it that there is none.
            return passed("ServerHello", record(ContentType.ALERT, _GIVE_UP, sequence=1))
        if first.type is ContentType.ALERT and len(first.body) == 2:
            return failed(f"alert {first.body[1]}")
        return failed(f"a record of type {first.type.name} that answers no ClientHello")
