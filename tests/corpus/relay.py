"""A relay on the loopback that writes down what a client sends through it."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """A context manager; ``sent`` are the client's datagrams in order.

    ``lose`` are the server's datagrams, by number from 0, that are not passed on, so that flights are sent again.
    """

    def __init__(self, server_port: int, lose: tuple[int, ...] = ()) -> None:
        self.sent: list[bytes] = []
        self._lose = lose
        self._answers = 0
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self.port = int(self._front.getsockname()[1])
        self._server = ("127.0.0.1", server_port)
        self._behind: dict[tuple[str, int], socket.socket] = {}
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.send(b".")
        self._thread.join()
        for handle in (self._front, self._stop, self._stopped, *self._behind.values()):
            handle.close()

    def _run(self) -> None:
        while True:
            owners = {handle: client for client, handle in self._behind.items()}
            ready = select.select([self._stopped, self._front, *owners], [], [])[0]
            if self._stopped in ready:
                return
            for handle in ready:
                try:
                    data, peer = handle.recvfrom(70000)
                except ConnectionRefusedError:
                    continue
                if handle is self._front:
                    self.sent.append(data)
                    self._toward(peer).send(data)
                else:
                    if self._answers not in self._lose:
                        self._front.sendto(data, owners[handle])
                    self._answers += 1

    def _toward(self, client: tuple[str, int]) -> socket.socket:
        if client not in self._behind:
            handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            handle.connect(self._server)
            self._behind[client] = handle
        return self._behind[client]
