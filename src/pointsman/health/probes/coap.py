"""coap: a ping, which is answered by a reset (RFC 7252, section 4.3), or a GET."""

from __future__ import annotations

from pointsman.health.probes.step import WAIT, Step, failed, passed
from pointsman.model.health import CoapTerms
from pointsman.wire.coap import EMPTY, CoapError, Header, MessageType, code_text, get, parse_header


class CoapProbe:
    """``number`` is the message's: none to the same endpoint had it lately; ``token`` has 8 bytes at most."""

    def __init__(self, terms: CoapTerms | None, number: int, token: bytes) -> None:
        self._terms = terms
        self._number = number
        self._token = token

    def start(self) -> Step:
        if self._terms is None:
            return Step(Header(MessageType.CONFIRMABLE, EMPTY, self._number).encode())
        return Step(get(self._number, self._token, self._terms.path, self._terms.query))

    def received(self, data: bytes) -> Step:
        try:
            header = parse_header(data)
        except CoapError as error:
            return failed(f"not CoAP: {error}")
        if header.type is MessageType.RESET:
            return self._reset(header)
        if self._terms is None or header.code == EMPTY:
            return WAIT  # an empty acknowledgement: the answer comes by itself (RFC 7252, section 5.2.2)
        if header.token != self._token or header.code >> 5 not in (2, 4, 5):
            return WAIT
        if header.type is MessageType.ACKNOWLEDGEMENT and header.id != self._number:
            return WAIT
        thanks = b""
        if header.type is MessageType.CONFIRMABLE:
            thanks = Header(MessageType.ACKNOWLEDGEMENT, EMPTY, header.id).encode()
        if header.code in self._terms.codes:
            return passed(code_text(header.code), thanks)
        wanted = ", ".join(map(code_text, self._terms.codes))
        return failed(f"{code_text(header.code)}, not {wanted}", thanks)

    def _reset(self, header: Header) -> Step:
        if header.id != self._number:
            return WAIT
        return passed("reset, which answers a ping") if self._terms is None else failed("reset")
