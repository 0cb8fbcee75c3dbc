"""BPF object files and programs, by libbpf 1.0 or later; maps are in ``bpf_map``, and can be had from here too.

Whatever ``Object`` hands out has a descriptor of its own: it stays valid when the ``Object`` is closed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pointsman.kernel.bpf_library import (
    BpfError,
    Handle,
    check,
    forget_warnings,
    info,
    library,
    possible_cpus,
    reason,
    unpin,
    warnings,
)
from pointsman.kernel.bpf_map import (
    BPF_ANY,
    BPF_EXIST,
    BPF_F_MMAPABLE,
    BPF_NOEXIST,
    Map,
    MapInfo,
    MapType,
    RingBuffer,
)

__all__ = [
    "BPF_ANY",
    "BPF_EXIST",
    "BPF_F_MMAPABLE",
    "BPF_NOEXIST",
    "BpfError",
    "Map",
    "MapInfo",
    "MapSpec",
    "MapType",
    "Object",
    "Program",
    "RingBuffer",
    "TestRun",
    "possible_cpus",
    "unpin",
]

_LIVE_FRAMES: Final = 1 << 1
_ROOM_TO_GROW: Final = 4096  # more than a program can add to a frame
_BEGIN, _END = "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --"


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What an object file says of a map; sizes in bytes."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a program made of a packet: its return value, the bytes, and nanoseconds for one run on average."""

    __test__ = False  # no test of pytest's

    retval: int
    data: bytes
    duration_ns: int
    meta: bytes = b""


class _TestRunOpts(ctypes.Structure):
    """Mirrors struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _XdpMd(ctypes.Structure):
    """Mirrors struct xdp_md."""

    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex")
    )


class Program(Handle):
    """A program in the kernel, by a descriptor of its own."""

    KIND = "bpf-prog"

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """Open a pinned program; raise BpfError."""
        return cls(cls._pinned(path))

    @classmethod
    def from_id(cls, number: int) -> Self:
        """Open a program by its id; raise BpfError."""
        return cls(check(library().bpf_prog_get_fd_by_id(number), f"cannot open the BPF program {number}"))

    @property
    def id(self) -> int:
        return int(struct.unpack_from("=I", info(self.fd, 80), 4)[0])

    @property
    def name(self) -> str:
        """Its name, of which the kernel keeps 15 characters."""
        return info(self.fd, 80)[64:80].partition(b"\0")[0].decode(errors="replace")

    @property
    def tag(self) -> str:
        """The kernel's digest of its instructions, 16 hexadecimal digits: the same code has the same."""
        return info(self.fd, 80)[8:16].hex()

    @property
    def as_value(self) -> bytes:
        """What a prog array is updated with; it reads back as the program's id."""
        return self.fd.to_bytes(4, sys.byteorder)

    def test_run(
        self,
        data: bytes,
        *,
        repeat: int = 1,
        ifindex: int = 0,
        meta: bytes = b"",
        live_frames: bool = False,
        batch: int = 0,
    ) -> TestRun:
        """Run the program on an Ethernet frame; raise BpfError.

        ``ifindex`` is where an XDP program finds the frame to come in (0: the loopback of this namespace). It
        belongs to this thread's network namespace; the answer is EINVAL where its receive queue is not registered
        for XDP (a veth's surely is while a native program is attached). ``meta`` is a multiple of 4 bytes up to 32.
        Live frames (kernel 5.18) are sent or passed on as the program says, ``batch`` at a time (0: 64, at most
        256), and nothing is returned of them.
        """
        content = meta + data
        incoming = ctypes.create_string_buffer(content, len(content))
        outgoing = ctypes.create_string_buffer(len(content) + _ROOM_TO_GROW)
        context = _XdpMd(data=len(meta), data_end=len(content), ingress_ifindex=ifindex)
        opts = _TestRunOpts(
            sz=ctypes.sizeof(_TestRunOpts),
            data_in=ctypes.addressof(incoming),
            data_size_in=len(content),
            repeat=repeat,
        )
        if live_frames:
            opts.flags, opts.batch_size = _LIVE_FRAMES, batch
        else:
            opts.data_out, opts.data_size_out = ctypes.addressof(outgoing), len(outgoing)
        if ifindex or meta:  # without, programs for tc, whose context is another, can be run too
            opts.ctx_in, opts.ctx_size_in = ctypes.addressof(context), ctypes.sizeof(context)
            if not live_frames:
                opts.ctx_out, opts.ctx_size_out = ctypes.addressof(context), ctypes.sizeof(context)
        check(library().bpf_prog_test_run_opts(self.fd, ctypes.byref(opts)), f"cannot run {self.name}")
        if live_frames:
            return TestRun(opts.retval, b"", opts.duration)
        made = outgoing.raw[: opts.data_size_out]
        begin = context.data if opts.ctx_out else 0
        return TestRun(opts.retval, made[begin:], opts.duration, made[:begin])


class Object:
    """An object file: ``resize`` and ``reuse`` its maps, ``load`` it, take programs and maps, close it."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read an object file, without loading anything; raise BpfError."""
        forget_warnings()
        handle = library().bpf_object__open_file(os.fsencode(path), None)
        if not handle:
            number = ctypes.get_errno()
            raise BpfError(f"cannot read {path}: {reason(number)}", number, warnings())
        return cls(path, handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._handle:
            handle, self._handle = self._handle, None
            library().bpf_object__close(handle)

    def maps(self) -> dict[str, MapSpec]:
        """The file's maps by name, those that the compiler made for variables among them."""
        found = {}
        each = library().bpf_object__next_map(self._handle, None)
        while each:
            name = library().bpf_map__name(each).decode()
            numbers = (
                getattr(library(), f"bpf_map__{what}")(each)
                for what in ("type", "key_size", "value_size", "max_entries", "map_flags")
            )
            found[name] = MapSpec(name, *numbers)
            each = library().bpf_object__next_map(self._handle, each)
        return found

    def resize(self, name: str, max_entries: int) -> None:
        """Give a map another size, before ``load()``; raise BpfError."""
        result = library().bpf_map__set_max_entries(self._map(name), max_entries)
        check(result, f"{self._path.name}: cannot resize the map {name}")

    def reuse(self, name: str, fd: int) -> None:
        """Use a map that there is, before ``load()``; raise BpfError. The caller's descriptor stays its own.

        The file's sizes give way to the map's; its type, and what the program does with it, are checked at the load.
        """
        result = library().bpf_map__reuse_fd(self._map(name), fd)
        check(result, f"{self._path.name}: cannot reuse the map {name}")

    def load(self) -> None:
        """Make the maps and have the kernel verify the programs; raise BpfError, with libbpf's words as its log."""
        forget_warnings()
        result = library().bpf_object__load(self._handle)
        if result < 0:
            said = warnings()
            raise BpfError(f"cannot load {self._path.name}: {_refusal(said, -result)}", -result, said)

    def program(self, name: str) -> Program:
        """A loaded program, for the caller to close; raise BpfError."""
        found = library().bpf_object__find_program_by_name(self._handle, name.encode())
        if not found:
            raise BpfError(f"{self._path.name} has no program {name}")
        return Program(os.dup(check(library().bpf_program__fd(found), f"the program {name} is not loaded")))

    def map(self, name: str) -> Map:
        """A map made by ``load()``, for the caller to close; raise BpfError."""
        return Map(os.dup(check(library().bpf_map__fd(self._map(name)), f"the map {name} is not there yet")))

    def _map(self, name: str) -> Any:
        found = library().bpf_object__find_map_by_name(self._handle, name.encode())
        if not found:
            raise BpfError(f"{self._path.name} has no map {name}")
        return found


def _refusal(said: str, number: int) -> str:
    """The verifier's last words, or else libbpf's first, which name the cause."""
    program = re.search(r"prog '([^']*)'", said)
    _, began, rest = said.partition(_BEGIN)
    if began:
        lines = [line.strip() for line in rest.partition(_END)[0].splitlines()]
        # Source lines begin with a semicolon; the statistics behind the reason help nobody. EACCES is the verifier's
        # word for an invalid access, so there is no advice to be root.
        words = [line for line in lines if line and not re.match(r"processed \d|;|libbpf:|max_states", line)]
        name = program[1] if program else "a program"
        return f"{os.strerror(number)}; the verifier says of {name}: {' / '.join(words[-2:]) or 'nothing'}"
    first = said.strip().splitlines()[:1]
    if not first or number == errno.EPERM:  # then it is about RLIMIT_MEMLOCK, which root need not mind
        return reason(number)
    return f"{reason(number)} ({first[0].removeprefix('libbpf: ')})"
