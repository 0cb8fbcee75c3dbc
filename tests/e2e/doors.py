"""TCP ports on a lab's machines that connect checks find open, or shut: each can be made so at any moment."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pointsman.lab.build import Lab

PORT = 9000


class Door:
    """One machine's port, for both families; a thread of its own takes what comes."""

    def __init__(self, lab: Lab, machine: str, port: int = PORT) -> None:
        self._lab, self._machine, self._port = lab, machine, port
        self._change = threading.Lock()
        self._listening: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def open(self) -> None:
        with self._change:
            for inet, family in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
                handle = self._lab.socket(self._machine, inet, socket.SOCK_STREAM)
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                handle.bind((self._lab.address(self._machine, family), self._port))
                handle.listen(128)
                handle.setblocking(False)
                self._listening.append(handle)

    def shut(self) -> None:
        with self._change:
            for handle in self._listening:
                handle.close()
            self._listening.clear()

    def end(self) -> None:
        self._over.set()
        self._thread.join(10)
        self.shut()

    def _take(self) -> None:
        while not self._over.wait(0.01):
            with self._change:
                for handle in select.select(self._listening, [], [], 0)[0]:
                    with suppress(BlockingIOError):
                        handle.accept()[0].close()


@contextmanager
def doors(lab: Lab, machines: Sequence[str]) -> Iterator[dict[str, Door]]:
    """Open ones."""
    found = {name: Door(lab, name) for name in machines}
    try:
        for door in found.values():
            door.open()
        yield found
    finally:
        for door in found.values():
            door.end()
