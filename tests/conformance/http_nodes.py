"""Real HTTP servers on nodes, and a client that asks them."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.conformance.site import PATIENCE, Site

HTTP = 8080


class _Server(http.server.ThreadingHTTPServer):
    """Bound to an address of its node's, made on a socket of the node's namespace."""

    daemon_threads = True

    def __init__(self, site: Site, node: str, address: str, body: bytes, served: Counter[str]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served[node] += 1
                self.send_response(200)
                self.send_header("X-Node", node)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
                pass

        super().__init__((address, HTTP), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = site.lab.socket(node, site.inet, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, HTTP))
        self.server_activate()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went is none of this test's business."""


@contextmanager
def http_servers(site: Site, *nodes: str, body: bytes = b"x" * 1000) -> Iterator[Counter[str]]:
    """Servers bound to the VIP; the counter says how many requests each has answered."""
    served: Counter[str] = Counter()
    servers = [_Server(site, node, site.vip, body, served) for node in nodes]
    threads = [threading.Thread(target=each.serve_forever, args=(0.05,), daemon=True) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield served
    finally:
        for each in servers:
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join()


class Browser(http.client.HTTPConnection):
    """A client's connection to the VIP, in the client's namespace."""

    def __init__(self, site: Site, port: int = HTTP, *, own: str | None = None) -> None:
        super().__init__(site.vip, port, timeout=PATIENCE)
        self._site, self._own = site, own or site.lab.address("client", site.family)

    def connect(self) -> None:
        self.sock = self._site.lab.socket("client", self._site.inet, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind((self._own, 0))
        self.sock.connect((self.host, self.port))

    def get(self) -> tuple[str, bytes]:
        """The node that answered, and what."""
        self.request("GET", "/")
        answer = self.getresponse()
        return answer.headers["X-Node"], answer.read()
