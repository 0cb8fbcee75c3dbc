"""Real TCP between the client and servers on nodes, for the conformance cases."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Self

from tests.conformance.site import COAP, PATIENCE, Site

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER's value by which a socket ends with a RST."""


class Servers:
    """A server on each node: it says its name once to every connection, then echoes; ends when told to."""

    def __init__(
        self, site: Site, names: Iterable[str], ports: Mapping[str, int], address: str | None = None
    ) -> None:
        self.accepted: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        """How connections ended, by exception: "" is a FIN."""
        self._selector = selectors.DefaultSelector()
        self._wake, self._awake = socket.socketpair()
        self._selector.register(self._awake, selectors.EVENT_READ)
        for name in names:
            listener = site.lab.socket(name, site.inet, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address or site.node_address(name), ports.get(name, COAP)))
            listener.listen(512)
            self._selector.register(listener, selectors.EVENT_READ, name)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                # Without a FIN that is sent again and again, and answered in the next case.
                key.fileobj.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._awake:
                    return
                assert isinstance(key.fileobj, socket.socket)
                if key.data:
                    connection, _ = key.fileobj.accept()
                    connection.settimeout(PATIENCE)
                    self.accepted[key.data] += 1
                    with suppress(OSError):
                        connection.sendall(key.data.encode())
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    self._echo(key.fileobj)

    def _echo(self, connection: socket.socket) -> None:
        try:
            if data := connection.recv(1 << 16):
                connection.sendall(data)
                return
            self.ended[""] += 1
        except OSError as problem:
            self.ended[type(problem).__name__] += 1
        self._selector.unregister(connection)
        connection.close()


@contextmanager
def servers(
    site: Site, *names: str, ports: Mapping[str, int] | None = None, address: str | None = None
) -> Iterator[Servers]:
    """Bound to the nodes' addresses, or to the one that is given."""
    with Servers(site, names, ports or {}, address) as found:
        yield found


class Connection:
    """A client's connection to the VIP; ``node`` is the one that took it."""

    def __init__(self, site: Site, port: int = 0) -> None:
        self.socket = site.lab.socket("client", site.inet, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((site.lab.address("client", site.family), port))
        self.socket.connect((site.vip, COAP))
        self.node = self.socket.recv(2).decode()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def echoes(self, data: bytes = b"still there") -> bool:
        self.socket.sendall(data)
        return self.heard(len(data)) == data

    def heard(self, length: int) -> bytes:
        found = b""
        while len(found) < length and (more := self.socket.recv(length - len(found))):
            found += more
        return found

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End it with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


@contextmanager
def connections(site: Site, count: int) -> Iterator[list[Connection]]:
    found = [Connection(site) for _ in range(count)]
    try:
        yield found
    finally:
        for each in found:
            each.reset()
