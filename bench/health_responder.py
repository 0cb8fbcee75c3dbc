"""Answers udp, coap and dtls checks at every address of this machine, and accepts tcp, for bench.health."""

from __future__ import annotations

import selectors
import socket
import struct
from typing import TYPE_CHECKING

from bench.health import PORTS
from pointsman.wire import dtls

if TYPE_CHECKING:
    from collections.abc import Callable

_TRANSPARENT = 75
_COOKIE = dtls.handshake_record(
    dtls.HandshakeType.HELLO_VERIFY_REQUEST, dtls.DTLS_1_0 + b"\x08cookies!", version=dtls.DTLS_1_0
)
_ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "udp": lambda data: data,
    "coap": lambda data: b"\x70\0" + data[2:4],
    "dtls": lambda _: _COOKIE,
}


def main() -> None:
    waiting = selectors.DefaultSelector()
    for kind, answer in _ANSWERS.items():
        waiting.register(_udp(PORTS[kind]), selectors.EVENT_READ, answer)
    waiting.register(_tcp(PORTS["tcp"]), selectors.EVENT_READ, None)
    while True:
        for key, _ in waiting.select():
            handle = key.fileobj
            assert isinstance(handle, socket.socket)
            if key.data is None:
                handle.accept()[0].close()
            else:
                _answer(handle, key.data)


def _udp(port: int) -> socket.socket:
    handle = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    handle.setsockopt(
        socket.IPPROTO_IPV6, _TRANSPARENT, 1
    )  # addresses are local by a route, and on no interface
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    handle.bind(("::", port))
    return handle


def _tcp(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)


def _answer(handle: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """Answer from the address that was asked."""
    data, notes, _, sender = handle.recvmsg(2048, socket.CMSG_SPACE(20))
    asked = next(note[2][:16] for note in notes if note[1] == socket.IPV6_PKTINFO)
    note = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked + struct.pack("I", 0))
    handle.sendmsg([answer(data)], [note], 0, sender)


if __name__ == "__main__":
    main()
