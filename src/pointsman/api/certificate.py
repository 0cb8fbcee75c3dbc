"""The certificate that is shown over TCP, which can be another one while it serves."""

from __future__ import annotations

import ssl

from pointsman.kernel.errors import KernelError


class Certificate:
    """``context`` is served for good; each handshake in it goes on with the newest pair of files that was right."""

    def __init__(self) -> None:
        self.context = _context()
        self.context.sni_callback = self._show
        self._newest = self.context

    def load(self, certificate: str, key: str) -> None:
        """Show this one from now on; raises KernelError, and then shows the one of before."""
        loaded = _context()  # one that fails half-way holds a certificate without its key
        try:
            loaded.load_cert_chain(certificate, key, password="")  # none, or it asks on a terminal
        except (OSError, ssl.SSLError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise KernelError(f"cannot use {certificate} with {key}: {reason}") from None
        self._newest = loaded

    def _show(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, also in those that name no server."""
        del name, context
        connection.context = self._newest


def _context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
