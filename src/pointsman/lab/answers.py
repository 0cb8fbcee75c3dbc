"""Servers for a lab's nodes, which say who they are: `python -m pointsman.lab.answers NAME tcp|udp ADDRESS PORT ...`.

TCP is answered as HTTP, UDP by the datagram itself behind the node's name.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import cast

_LONGEST_REQUEST = 65536


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11's is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(self._name + b": " + data, addr)


async def _http(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request on the connection with the node's name and the address that it saw."""
    peer = writer.get_extra_info("peername")
    body = f"{name} answers {peer[0]}:{peer[1]}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(head + body)
            await writer.drain()
    writer.close()


def _bound(host: str, port: int) -> socket.socket:
    """Of its own family alone, so that there may be one on 0.0.0.0 and one on ::."""
    handle = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in host:
        handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    handle.setblocking(False)  # noqa: FBT003 - takes no keyword
    handle.bind((host, port))
    return handle


async def serve(name: str, protocol: str, endpoints: Sequence[tuple[str, int]]) -> None:
    """Answer at all endpoints until the process is ended."""
    loop = asyncio.get_running_loop()
    for address, port in endpoints:
        host = str(ip_address(address))
        if protocol == "udp":
            await loop.create_datagram_endpoint(lambda: _Echo(name), sock=_bound(host, port))
        else:
            await asyncio.start_server(
                lambda reader, writer: _http(name, reader, writer), host, port, limit=_LONGEST_REQUEST
            )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    _name, _protocol, *_rest = sys.argv[1:]
    asyncio.run(serve(_name, _protocol, [(a, int(p)) for a, p in zip(_rest[::2], _rest[1::2], strict=True)]))
