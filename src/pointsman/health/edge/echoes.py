"""icmp: all targets of one family, source and interface by one socket."""

from __future__ import annotations

import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from pointsman.health.edge.sockets import opened, refusal
from pointsman.health.edge.streams import Done
from pointsman.health.probes.step import success, untried
from pointsman.health.targets import Target, source_of
from pointsman.model import Address, CheckKind
from pointsman.wire.icmp_echo import REPLY, Echo, behind_ipv4, parse_reply, request

_ICMP_FILTER = 1
_SOL_RAW = 255
_ICMP6_FILTER = 1
_PADDING = bytes(range(8, 56))
_AT_ONCE = 8192
_RECEIVE_BUFFER = 1 << 22
_SO_RCVBUFFORCE = 33
_SEND_BUFFER = 1 << 25
_SO_SNDBUFFORCE = 32
_LONGEST_NAME = 16

Key = tuple[int, Address | None, str | None]


@dataclass(frozen=True, slots=True)
class _Flight:
    address: Address
    token: bytes
    done: Done


class Echoes:
    """Begins tries by ICMP echo."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._sockets: dict[Key, _Socket] = {}

    def begin(self, target: Target, done: Done) -> Callable[[], None] | None:
        """Start a try; what is returned ends it early, None where it has ended."""
        key = _key(target)
        found = self._sockets.get(key)
        if found is None:
            try:
                found = self._sockets[key] = _Socket(self._loop, target)
            except OSError as error:
                done(refusal(error))
                return None
        try:
            return found.ask(target.address, done)
        except OSError as error:
            if found.has_lost(target.check.interface):
                self._drop(key)
            done(refusal(error))
            return None

    def want(self, targets: Iterable[Target]) -> None:
        """Close the sockets that none of these targets is asked by."""
        wanted = {_key(target) for target in targets if target.check.kind is CheckKind.ICMP}
        for key in self._sockets.keys() - wanted:
            self._drop(key)

    def close(self) -> None:
        self.want(())

    def _drop(self, key: Key) -> None:
        self._sockets.pop(key).close()


def _key(target: Target) -> Key:
    return target.address.version, source_of(target), target.check.interface


class _Socket:
    """A raw socket, or where that is not allowed a ping socket, on which the kernel writes the identifier."""

    def __init__(self, loop: AbstractEventLoop, target: Target) -> None:
        self._loop = loop
        self._family = target.address.version
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._sequence = 0
        self._flights: dict[int, _Flight] = {}
        protocol = socket.IPPROTO_ICMP if self._family == 4 else socket.IPPROTO_ICMPV6
        try:
            self._handle = opened(target, socket.SOCK_RAW, protocol)
            self._raw = True
        except PermissionError:
            self._handle = opened(target, socket.SOCK_DGRAM, protocol)
            self._raw = False
        _enlarge(self._handle, _SO_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        # Pings to neighbours that do not answer wait for them in this machine, and count all the while: hundreds of
        # dead nodes must leave room for the others.
        _enlarge(self._handle, _SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BUFFER)
        if self._raw and self._family == 4:
            others = ~(1 << REPLY[4]) & 0xFFFFFFFF
            self._handle.setsockopt(_SOL_RAW, _ICMP_FILTER, others.to_bytes(4, "little"))
        elif self._raw:
            words = [0xFFFFFFFF] * 8
            words[REPLY[6] >> 5] &= ~(1 << (REPLY[6] & 31))
            blocked = b"".join(word.to_bytes(4, "little") for word in words)
            self._handle.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, blocked)
        loop.add_reader(self._handle.fileno(), self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._handle.fileno())
        self._handle.close()

    def has_lost(self, interface: str | None) -> bool:
        """Whether the interface that it is bound to has gone; it may be back, as another one to the kernel."""
        if interface is None:
            return False
        try:
            bound = self._handle.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _LONGEST_NAME)
        except OSError:
            return True
        return bound.rstrip(b"\0") != interface.encode()

    def ask(self, address: Address, done: Done) -> Callable[[], None] | None:
        """Send a ping; raises OSError where that is refused."""
        self._sequence = sequence = (self._sequence + 1) & 0xFFFF
        token = os.urandom(8)
        echo = Echo(self._identifier, sequence, token + _PADDING)
        try:
            self._handle.sendto(request(self._family, echo), (str(address), 0))
        except BlockingIOError:
            done(untried("the socket's buffer is full"))
            return None
        flight = self._flights[sequence] = _Flight(address, token, done)

        def forget() -> None:
            # Numbers come round again: by now this one may be another node's.
            if self._flights.get(sequence) is flight:
                del self._flights[sequence]

        return forget

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet, (sender, *_) = self._handle.recvfrom(2048)
            except OSError:  # nothing more; or an error about a packet, whose try then times out
                return
            message = behind_ipv4(packet) if self._raw and self._family == 4 else packet
            echo = parse_reply(self._family, message)
            if echo is None or (self._raw and echo.identifier != self._identifier):
                continue
            flight = self._flights.get(echo.sequence)
            if (
                flight is not None
                and echo.data.startswith(flight.token)
                and ip_address(sender.partition("%")[0]) == flight.address
            ):
                del self._flights[echo.sequence]
                flight.done(success("echo reply"))


def _enlarge(handle: socket.socket, force: int, plain: int, size: int) -> None:
    """Set a buffer's size, up to the machine's limit where this process may not go beyond."""
    try:
        handle.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        handle.setsockopt(socket.SOL_SOCKET, plain, size)
