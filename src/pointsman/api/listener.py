"""A listening socket that takes so many connections and no more."""

from __future__ import annotations

import socket
from typing import Any


class Listener(socket.socket):
    """What ``listening`` was, with a bound: asyncio accepts all, and shows nobody those in their TLS handshake."""

    def __init__(self, listening: socket.socket, most: int) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._most = most
        self._accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises ConnectionAbortedError for one too many, which is closed."""
        connection, address = super().accept()
        self._accepted = [each for each in self._accepted if each.fileno() >= 0]
        if len(self._accepted) >= self._most:
            connection.close()
            raise ConnectionAbortedError
        self._accepted.append(connection)
        return connection, address
