"""udp, coap, dtls: a connected socket for each target, kept while it is answered."""

from __future__ import annotations

import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable

from pointsman.health.edge.sockets import opened, refusal
from pointsman.health.edge.streams import Done
from pointsman.health.probes.coap import CoapProbe
from pointsman.health.probes.datagram import DatagramProbe
from pointsman.health.probes.dtls import DtlsProbe
from pointsman.health.probes.step import Outcome, Probe, Step
from pointsman.health.targets import Target
from pointsman.model.health import CheckKind, CoapTerms, UdpTerms

_LARGEST = 65535


class Datagrams:
    """Begins tries over UDP; sockets above ``most_kept`` are closed after each of them.

    ``port`` says from which port, 0 is any.
    """

    def __init__(self, loop: AbstractEventLoop, most_kept: int, port: Callable[[Target], int]) -> None:
        self._loop = loop
        self._port = port
        self._most_kept = most_kept
        self._kept: dict[Target, _Channel] = {}

    def begin(self, target: Target, done: Done) -> Callable[[], None] | None:
        """Start a try; what is returned ends it early, None where it has ended."""
        channel = self._kept.pop(target, None)
        if channel is None:
            try:
                channel = _Channel(self._loop, target, self._port(target))
            except OSError as error:
                done(refusal(error))
                return None

        def ended(outcome: Outcome) -> None:
            # What comes late for this try must not answer the next one; and to a DTLS server, who begins a
            # handshake from the port of another one sends that again.
            if outcome.ok and target.check.kind is not CheckKind.DTLS and len(self._kept) < self._most_kept:
                self._kept[target] = channel
            else:
                channel.close()
            done(outcome)

        return channel.close if channel.ask(ended) else None

    def forget(self, target: Target) -> None:
        """Close what is kept for the target."""
        channel = self._kept.pop(target, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        for target in list(self._kept):
            self.forget(target)


class _Channel:
    """A socket that one target is asked by, one question at a time."""

    __slots__ = ("_done", "_handle", "_loop", "_number", "_probe", "_target")

    def __init__(self, loop: AbstractEventLoop, target: Target, port: int) -> None:
        self._loop = loop
        self._target = target
        self._probe: Probe | None = None
        self._done: Done | None = None
        self._number = int.from_bytes(os.urandom(2), "big")
        self._handle = opened(target, socket.SOCK_DGRAM, port=port)
        try:
            self._handle.connect((str(target.address), target.port))
        except BaseException:
            self._handle.close()
            raise
        loop.add_reader(self._handle.fileno(), self._readable)

    def close(self) -> None:
        self._probe = None
        self._loop.remove_reader(self._handle.fileno())
        self._handle.close()

    def ask(self, done: Done) -> bool:
        """Send the question; False where it has ended already."""
        self._number = (self._number + 1) & 0xFFFF
        self._probe = self._made()
        self._done = done
        self._act(self._probe.start())
        return self._probe is not None

    def _made(self) -> Probe:
        terms = self._target.check.terms
        if isinstance(terms, UdpTerms):
            return DatagramProbe(terms)
        if self._target.check.kind is CheckKind.COAP:
            return CoapProbe(terms if isinstance(terms, CoapTerms) else None, self._number, os.urandom(4))
        return DtlsProbe(os.urandom(32))

    def _readable(self) -> None:
        try:
            data = self._handle.recv(_LARGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # the node's, or a router's, ICMP error
            self._end(refusal(error))
            return
        if self._probe is not None:
            self._act(self._probe.received(data))

    def _act(self, step: Step) -> None:
        if step.send:
            try:
                self._handle.send(step.send)
            except OSError as error:
                self._end(step.outcome or refusal(error))
                return
        if step.outcome is not None:
            self._end(step.outcome)

    def _end(self, outcome: Outcome) -> None:
        done, asked = self._done, self._probe is not None
        self._probe = self._done = None
        if asked and done is not None:
            done(outcome)
