"""tcp, tls, http, https: one connection for each try."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable

from pointsman.health.edge.sockets import opened, refusal
from pointsman.health.probes.connect import ConnectProbe
from pointsman.health.probes.http import HttpProbe
from pointsman.health.probes.step import Outcome, Probe, Step, plain, untried
from pointsman.health.probes.tls import TlsProbe
from pointsman.health.targets import Target
from pointsman.model.health import HttpTerms, TlsTerms

Done = Callable[[Outcome], None]
_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)


class Streams:
    """Begins tries over TCP; ``port`` says from which port, 0 is any."""

    def __init__(self, loop: AbstractEventLoop, port: Callable[[Target], int]) -> None:
        self._loop = loop
        self._port = port
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    def begin(self, target: Target, done: Done) -> Callable[[], None] | None:
        """Start a try; what is returned ends it early, None where it has ended."""
        try:
            probe = self._probe(target)
        except (OSError, ValueError) as error:  # no file of authorities, or nothing in it
            done(untried(f"{authorities_of(target)}: {plain(str(error))}"))
            return None
        try:
            handle = opened(target, socket.SOCK_STREAM, port=self._port(target))
        except OSError as error:
            done(refusal(error))
            return None
        stream = _Stream(self._loop, handle, probe, done)
        return stream.close if stream.connect((str(target.address), target.port)) else None

    def refresh(self) -> None:
        """Read files of authorities again when they are next needed."""
        self._contexts.clear()

    def _probe(self, target: Target) -> Probe:
        terms = target.check.terms
        if isinstance(terms, HttpTerms):
            inner = HttpProbe(terms, target.host)
            return inner if terms.tls is None else self._tls(terms.tls, target, inner)
        if isinstance(terms, TlsTerms):
            return self._tls(terms, target)
        return ConnectProbe()

    def _tls(self, terms: TlsTerms, target: Target, inside: Probe | None = None) -> TlsProbe:
        key = terms.verify, terms.authorities
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _context(terms)
        name = terms.server_name or (str((target.vip or target).address) if terms.verify else None)
        return TlsProbe(context, name, inside)


def authorities_of(target: Target) -> str:
    """The file that certificates of the target are verified by."""
    terms = target.check.terms
    tls = terms.tls if isinstance(terms, HttpTerms) else terms
    return (tls.authorities if isinstance(tls, TlsTerms) else None) or "the system's authorities"


def _context(terms: TlsTerms) -> ssl.SSLContext:
    if terms.verify:
        return ssl.create_default_context(cafile=terms.authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Stream:
    """A connection under way; ``done`` is called once, with the socket closed."""

    __slots__ = ("_done", "_file", "_handle", "_loop", "_probe", "_unsent")

    def __init__(self, loop: AbstractEventLoop, handle: socket.socket, probe: Probe, done: Done) -> None:
        self._loop = loop
        self._handle = handle
        self._file = handle.fileno()
        self._probe = probe
        self._done = done
        self._unsent = b""

    def connect(self, address: tuple[str, int | None]) -> bool:
        """Begin to connect; False where it has failed already."""
        failure = self._handle.connect_ex(address)
        if failure not in (0, errno.EINPROGRESS):
            self._handle.close()
            self._done(refusal(OSError(failure, "")))
            return False
        self._loop.add_writer(self._file, self._connected)
        return True

    def close(self) -> None:
        self._loop.remove_writer(self._file)
        self._loop.remove_reader(self._file)
        # By a reset where the node has not closed yet: thousands of connections would be remembered for a minute, and
        # the port of one that is asked at its VIP would be taken.
        self._handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._handle.close()

    def _connected(self) -> None:
        failure = self._handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            self._end(refusal(OSError(failure, "")))
            return
        self._loop.remove_writer(self._file)
        self._act(self._probe.start(), begin=True)

    def _readable(self) -> None:
        try:
            data = self._handle.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(refusal(error))
            return
        self._act(self._probe.received(data))

    def _writable(self) -> None:
        self._loop.remove_writer(self._file)
        unsent, self._unsent = self._unsent, b""
        self._act(Step(unsent))

    def _act(self, step: Step, *, begin: bool = False) -> None:
        if step.send:
            self._unsent += step.send
            try:
                sent = self._handle.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._end(step.outcome or refusal(error))
                return
            self._unsent = self._unsent[sent:]
            if self._unsent:
                self._loop.add_writer(self._file, self._writable)
        if step.outcome is not None:
            self._end(step.outcome)
        elif begin:
            self._loop.add_reader(self._file, self._readable)

    def _end(self, outcome: Outcome) -> None:
        self.close()
        self._done(outcome)
