"""The API's sockets: the unix one, and TCP with TLS and tokens where that is configured."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from pointsman.api import place
from pointsman.api.access import Access, Token, TokensError, read_tokens
from pointsman.api.app import application
from pointsman.api.certificate import Certificate
from pointsman.api.listener import Listener
from pointsman.api.metrics import Figures
from pointsman.api.operator import Operator
from pointsman.api.unix_socket import BACKLOG, UnixSocket, open_socket, peer_of
from pointsman.kernel.errors import KernelError
from pointsman.model import Api
from pointsman.model.api import ApiOverTcp

MOST_CONNECTIONS = 256
"""At each socket; while so many are open, requests are answered 503."""
MORE_CONNECTIONS = 32
"""Open besides, so that callers are told; those beyond are closed at once. A TLS handshake counts from its start."""
HANDSHAKE_SECONDS = 10.0
REQUEST_SECONDS = 15.0
CLOSING_SECONDS = 2
LARGEST_HEADER = 32 << 10


class _Connection(H11Protocol):
    """One caller: the kernel says who it is, and it has some seconds for the head of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            try:
                self.app_state = {**self.app_state, "peer": peer_of(connection)}
            except OSError:  # gone already
                transport.abort()
        super().connection_made(transport)
        self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._patience.cancel()
        elif self._patience.cancelled():
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which leaves a caller 60 s for the TLS handshake, and 30 s to say farewell."""
        tls = self.config.ssl
        self.servers = [
            await asyncio.get_running_loop().create_server(
                partial(_Connection, self.config, self.server_state, {}),
                sock=own,
                ssl=tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
                ssl_shutdown_timeout=CLOSING_SECONDS if tls else None,
            )
            for own in sockets or ()
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon, whose process this is."""
        yield


class Serving:
    """What serves at the moment."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._access = Access()
        self._unix: UnixSocket | None = None
        self._certificate: Certificate | None = None

    def access(self) -> Access:
        return self._access

    @property
    def is_lost(self) -> bool:
        """Whether the unix socket has not its path any more."""
        return self._unix is not None and self._unix.is_lost

    def renew(self) -> None:
        """Read tokens and certificate again; raises KernelError, and then goes on with those of before."""
        tcp = self._api.tcp
        if tcp is None:
            return
        tokens = _tokens(tcp)
        if self._certificate is not None:
            self._certificate.load(tcp.certificate, tcp.key)
        self._access = replace(self._access, tokens=tokens)

    def _opened(self, unix: UnixSocket) -> None:
        self._unix = unix
        self._access = replace(self._access, owner=os.geteuid(), group=unix.group)


@asynccontextmanager
async def serving(operator: Operator, api: Api, figures: Figures | None = None) -> AsyncIterator[Serving]:
    """Serve the API meanwhile; raises KernelError where it cannot be served as configured."""
    serves = Serving(api)
    app = application(operator, serves.access, figures)
    with _sockets(api, serves) as sockets:
        servers = [_server(app, tls) for _, tls in sockets]
        tasks = [
            asyncio.create_task(server.serve([own]))
            for server, (own, _) in zip(servers, sockets, strict=True)
        ]
        try:
            while not all(server.started for server in servers):
                for task in tasks:
                    if task.done():
                        task.result()
                        raise KernelError("the API's server ended as it started; the log says why")
                await asyncio.sleep(0.01)
            yield serves
        finally:
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _sockets(api: Api, serves: Serving) -> Iterator[list[tuple[socket.socket, ssl.SSLContext | None]]]:
    unix = _unix(api)
    opened: list[tuple[socket.socket, ssl.SSLContext | None]] = [(_limited(unix.socket), None)]
    try:
        serves._opened(unix)
        if api.tcp is not None:
            serves._certificate = Certificate()
            serves.renew()
            opened.append((_limited(_tcp(api.tcp)), serves._certificate.context))
        yield opened
    finally:
        unix.close()
        if not api.socket:
            with suppress(OSError):  # other namespaces' are in there
                unix.path.parent.rmdir()
        for own, _ in opened:
            own.close()


def _unix(api: Api) -> UnixSocket:
    path = Path(api.socket) if api.socket else place.default_socket()
    unix = open_socket(path, api.socket_mode, api.socket_group)
    alias = None if api.socket else place.alias()
    if alias is not None:
        with suppress(OSError):  # there already, or a full disk: a convenience
            alias.symlink_to(".")
    return unix


def _limited(listening: socket.socket) -> socket.socket:
    return Listener(listening, MOST_CONNECTIONS + MORE_CONNECTIONS)


def _tcp(tcp: ApiOverTcp) -> socket.socket:
    address = (str(tcp.listen.address), tcp.listen.port)
    try:
        return socket.create_server(
            address,
            family=socket.AF_INET if tcp.listen.address.version == 4 else socket.AF_INET6,
            backlog=BACKLOG,
        )
    except OSError as problem:
        raise KernelError(f"cannot listen at {tcp.listen}: {problem.strerror}") from None


def _tokens(tcp: ApiOverTcp) -> tuple[Token, ...]:
    path = Path(tcp.tokens)
    try:
        with path.open() as file:
            found = os.fstat(file.fileno())
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KernelError(f"{path} can be written by others than its owner; chmod go-w {path}")
            return read_tokens(file.read(), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        raise KernelError(f"cannot read {path}: {getattr(problem, 'strerror', problem)}") from None
    except TokensError as mistake:
        raise KernelError(str(mistake)) from None


def _server(app: Starlette, tls: ssl.SSLContext | None) -> _Server:
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEADER,
    )
    config.load()
    config.ssl = tls
    return _Server(config)
