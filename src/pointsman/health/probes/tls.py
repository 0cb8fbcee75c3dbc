"""tls: a whole handshake; and https, which goes on inside of it."""

from __future__ import annotations

import ssl
from contextlib import suppress

from pointsman.health.probes.step import Outcome, Probe, Step, failure, plain, success

_CHUNK = 16384


class TlsProbe:
    """``name`` goes into the ClientHello and is what a verifying context holds certificates against."""

    def __init__(self, context: ssl.SSLContext, name: str | None, inside: Probe | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._inside = inside
        self._open = False

    def start(self) -> Step:
        return self._advance()

    def received(self, data: bytes) -> Step:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return self._advance()

    def _advance(self) -> Step:
        outcome = None
        try:
            if not self._open:
                self._tls.do_handshake()
                self._open = True
                outcome = self._opened()
            while outcome is None:
                outcome = self._read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            outcome = failure(_words(error))
        if outcome is not None:
            with suppress(ssl.SSLError):
                self._tls.unwrap()  # writes the alert that ends the session, and waits for none
        return Step(self._outgoing.read(), outcome)

    def _opened(self) -> Outcome | None:
        if self._inside is None:
            cipher = self._tls.cipher()
            return success(f"{self._tls.version()} {cipher[0] if cipher else ''}".rstrip())
        return self._take(self._inside.start())

    def _read(self) -> Outcome | None:
        try:
            data = self._tls.read(_CHUNK)
        except ssl.SSLZeroReturnError:
            data = b""
        if self._inside is None:
            return failure("TLS: closed")
        outcome = self._take(self._inside.received(data))
        if outcome is None and not data:
            return failure("TLS: closed")
        return outcome

    def _take(self, step: Step) -> Outcome | None:
        if step.send:
            self._tls.write(step.send)
        return step.outcome


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {plain(error.verify_message)}"
    if isinstance(error, ssl.SSLEOFError):
        return "TLS: closed"
    return f"TLS: {plain((error.reason or 'failed').lower().replace('_', ' '))}"
