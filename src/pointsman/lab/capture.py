"""The frames that pass an interface, byte for byte."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pointsman.lab.errors import LabError
from pointsman.lab.inside import inside

_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_AUXDATA: Final = 8
_PACKET_STATISTICS: Final = 6
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_OUTGOING: Final = 4
_CHECKSUM_NOT_READY: Final = 0x8
_VLAN_VALID: Final = 0x10
_VLAN_TPID_VALID: Final = 0x40
_SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_AUXDATA: Final = struct.Struct("=IIIHHHH")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the Ethernet header on; ``time`` is the kernel's, in seconds since the epoch.

    ``checksum_ready`` is false where the sender left the UDP or TCP checksum to the interface: its bytes
    mean nothing yet (a topology with ``offload=False`` has none of these). A burst sent with UDP GSO is one
    frame of up to 64 KiB.
    """

    time: float
    data: bytes
    outgoing: bool
    checksum_ready: bool

    @property
    def ethertype(self) -> int:
        return int.from_bytes(self.data[12:14], "big")

    @property
    def packet(self) -> bytes:
        """The IP packet: what follows an untagged Ethernet header, without the padding of short frames."""
        body = self.data[14:]
        if self.ethertype == 0x0800:
            return body[: int.from_bytes(body[2:4], "big")]
        if self.ethertype == 0x86DD:
            return body[: 40 + int.from_bytes(body[4:6], "big")]
        return body


class Capture:
    """Collects frames in a thread while its block runs; the list stays readable afterwards."""

    def __init__(self, namespace: str, interface: str, *, outgoing: bool = True) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(not outgoing))
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise LabError(f"{namespace}, {interface}: cannot capture: {error.strerror}") from error
        self._arrived = threading.Condition()
        self._frames: list[Frame] = []
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(
            target=self._collect, name=f"capture {namespace} {interface}", daemon=True
        )
        self.lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.lost = struct.unpack("=II", statistics)[1]
        self._socket.close()
        self._stopped.close()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What has arrived so far."""
        with self._arrived:
            return tuple(self._frames)

    def wait(
        self, count: int = 1, timeout: float = 2.0, want: Callable[[Frame], bool] = lambda _: True
    ) -> list[Frame]:
        """The first ``count`` frames that ``want`` accepts; raise LabError if they do not arrive in time."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while len(found := [frame for frame in self._frames if want(frame)]) < count:
                if not self._arrived.wait(max(0.0, left := deadline - time.monotonic())) and left <= 0:
                    raise LabError(
                        f"{len(found)} of {count} frames within {timeout} s; {len(self._frames)} of any kind"
                    )
        return found[:count]

    def _collect(self) -> None:
        running = True
        while running:
            ready, _, _ = select.select([self._socket, self._stopped], [], [])
            running = self._stopped not in ready
            # What the kernel has taken by now belongs to the capture, also when the block is over.
            while frame := self._receive():
                with self._arrived:
                    self._frames.append(frame)
                    self._arrived.notify_all()

    def _receive(self) -> Frame | None:
        try:
            data, control, _, address = self._socket.recvmsg(1 << 17, 256, socket.MSG_DONTWAIT)
        except (BlockingIOError, OSError):
            return None
        stamp, status = time.time(), 0
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("=qq", value[:16])
                stamp = seconds + nanoseconds / 1e9
            elif (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tag, protocol = _AUXDATA.unpack(value[: _AUXDATA.size])
                if status & _VLAN_VALID:  # the kernel takes the tag out of the bytes
                    kept = protocol if status & _VLAN_TPID_VALID else 0x8100
                    data = data[:12] + struct.pack(">HH", kept, tag) + data[12:]
        return Frame(stamp, data, address[2] == _PACKET_OUTGOING, not status & _CHECKSUM_NOT_READY)
