"""A thin ctypes wrapper on libbpf, as much of it as the rig needs.

It goes when the XDP data plane brings the package its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

XDP_FLAGS_DRV_MODE = 1 << 2
BPF_F_XDP_HAS_FRAGS = 1 << 5
_PROG_ARRAY, _ARRAY_OF_MAPS, _HASH_OF_MAPS = 3, 12, 13  # enum bpf_map_type
BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_lib.bpf_object__open_file.restype = ctypes.c_void_p
_lib.bpf_object__find_program_by_name.restype = ctypes.c_void_p
_lib.bpf_object__find_map_by_name.restype = ctypes.c_void_p
_lib.bpf_object__next_program.restype = ctypes.c_void_p
_lib.bpf_object__next_program.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_lib.bpf_map__reuse_fd.argtypes = [ctypes.c_void_p, ctypes.c_int]
_lib.bpf_program__set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
for _name in (
    "bpf_object__load",
    "bpf_object__close",
    "bpf_object__find_program_by_name",
    "bpf_object__find_map_fd_by_name",
    "bpf_object__find_map_by_name",
    "bpf_program__fd",
):
    getattr(_lib, _name).argtypes = [ctypes.c_void_p] + (
        [ctypes.c_char_p] if _name.endswith("by_name") else []
    )


class BpfError(RuntimeError):
    """A call into libbpf that failed, with the errno's text."""


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


def _check(result: int, what: str) -> int:
    """Return ``result``, a negative errno being an error."""
    if result < 0:
        raise BpfError(f"{what}: {os.strerror(-result)}")
    return result


class Program:
    """One loaded object file with one program of interest."""

    def __init__(
        self, path: Path, name: str, *, reuse: Mapping[str, int] | None = None, flags: int = 0
    ) -> None:
        """Load ``path``; ``reuse`` names maps of others, by descriptor, to be taken instead of the file's."""
        self._object = _lib.bpf_object__open_file(str(path).encode(), None)
        if not self._object:
            raise BpfError(f"{path}: {os.strerror(ctypes.get_errno())}")
        program = _lib.bpf_object__next_program(self._object, None)
        for map_name, fd in (reuse or {}).items():
            found = _lib.bpf_object__find_map_by_name(self._object, map_name.encode())
            if not found:
                raise BpfError(f"{path}: no map {map_name}")
            _check(_lib.bpf_map__reuse_fd(found, fd), f"reuse map {map_name}")
        while flags and program:  # on all of them: tail calls want programs that are alike
            _check(_lib.bpf_program__set_flags(program, flags), f"{name}: set flags")
            program = _lib.bpf_object__next_program(self._object, program)
        _check(_lib.bpf_object__load(self._object), f"{path}: load")
        self.fd = self.program_fd(name)

    def _program(self, name: str) -> int:
        program: int | None = _lib.bpf_object__find_program_by_name(self._object, name.encode())
        if not program:
            raise BpfError(f"no program {name}")
        return program

    def program_fd(self, name: str) -> int:
        return _check(_lib.bpf_program__fd(self._program(name)), name)

    def close(self) -> None:
        if self._object:
            _lib.bpf_object__close(self._object)
            self._object = None

    def attach(self, ifindex: int) -> None:
        """Attach to an interface of this thread's namespace, in driver mode and no other."""
        _check(_lib.bpf_xdp_attach(ifindex, self.fd, XDP_FLAGS_DRV_MODE, None), "attach XDP in driver mode")

    def map_fd(self, name: str) -> int:
        return _check(_lib.bpf_object__find_map_fd_by_name(self._object, name.encode()), f"map {name}")

    def write(self, name: str, value: bytes) -> None:
        """Set element 0 of an array map."""
        key = ctypes.c_uint32(0)
        _check(_lib.bpf_map_update_elem(self.map_fd(name), ctypes.byref(key), value, 0), f"write {name}")

    def read(self, name: str, size: int) -> bytes:
        """Return element 0 of an array map."""
        key = ctypes.c_uint32(0)
        value = ctypes.create_string_buffer(size)
        _check(_lib.bpf_map_lookup_elem(self.map_fd(name), ctypes.byref(key), value), f"read {name}")
        return value.raw

    @contextmanager
    def mapped(self, name: str, size: int) -> Iterator[mmap.mmap]:
        """Map an array map that was made for it into memory."""
        with mmap.mmap(self.map_fd(name), size) as memory:
            yield memory

    def read_percpu(self, name: str, size: int, index: int = 0) -> list[bytes]:
        """Return element ``index`` of a per-CPU array map, ``size`` bytes (a multiple of 8) for each CPU."""
        cpus = _check(_lib.libbpf_num_possible_cpus(), "possible CPUs")
        key = ctypes.c_uint32(index)
        value = ctypes.create_string_buffer(size * cpus)
        _check(_lib.bpf_map_lookup_elem(self.map_fd(name), ctypes.byref(key), value), f"read {name}")
        return [value.raw[at : at + size] for at in range(0, size * cpus, size)]

    def write_percpu(self, name: str, value: bytes, index: int = 0) -> None:
        """Set element ``index`` of a per-CPU array map to one value (a multiple of 8 bytes) on each CPU."""
        cpus = _check(_lib.libbpf_num_possible_cpus(), "possible CPUs")
        key = ctypes.c_uint32(index)
        _check(
            _lib.bpf_map_update_elem(self.map_fd(name), ctypes.byref(key), value * cpus, 0), f"write {name}"
        )

    def send_live(self, frame: bytes, ifindex: int, repeat: int, batch: int = 64) -> None:
        """Run the program ``repeat`` times on live frames; what it returns XDP_TX for leaves by ``ifindex``.

        ``ifindex`` belongs to this thread's namespace, and an XDP program is attached there already: without
        one the veth has no receive queue registered, and the kernel answers EINVAL.
        """
        context = _XdpMd(data_end=len(frame), ingress_ifindex=ifindex)
        data = ctypes.create_string_buffer(frame, len(frame))
        opts = _TestRunOpts(
            sz=ctypes.sizeof(_TestRunOpts),
            data_in=ctypes.addressof(data),
            data_size_in=len(frame),
            ctx_in=ctypes.addressof(context),
            ctx_size_in=ctypes.sizeof(context),
            repeat=repeat,
            flags=BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size=batch,
        )
        _check(_lib.bpf_prog_test_run_opts(self.fd, ctypes.byref(opts)), "send live frames")

    def test_run(self, frame: bytes, ifindex: int, repeat: int) -> tuple[int, int, bytes]:
        """Run the program ``repeat`` times on one buffer, as if ``frame`` had come in by ``ifindex``.

        Return the last run's verdict, the nanoseconds of one run, and what the last run left of the packet.
        """
        context = _XdpMd(data_end=len(frame), ingress_ifindex=ifindex)
        data = ctypes.create_string_buffer(frame, len(frame))
        out = ctypes.create_string_buffer(2048)
        after = _XdpMd()
        opts = _TestRunOpts(
            sz=ctypes.sizeof(_TestRunOpts),
            data_in=ctypes.addressof(data),
            data_size_in=len(frame),
            data_out=ctypes.addressof(out),
            data_size_out=len(out),
            ctx_in=ctypes.addressof(context),
            ctx_size_in=ctypes.sizeof(context),
            ctx_out=ctypes.addressof(after),
            ctx_size_out=ctypes.sizeof(after),
            repeat=repeat,
        )
        _check(_lib.bpf_prog_test_run_opts(self.fd, ctypes.byref(opts)), "test run")
        return opts.retval, opts.duration, out.raw[after.data : opts.data_size_out]  # behind metadata


def set_program(fd: int, program: int, index: int = 0) -> None:
    """Set an element of a program array."""
    key, value = ctypes.c_uint32(index), ctypes.c_uint32(program)
    _check(_lib.bpf_map_update_elem(fd, ctypes.byref(key), ctypes.byref(value), 0), "set tail call")


def attached(ifindex: int) -> int:
    """Return the id of the XDP program at an interface of this thread's namespace; 0: there is none."""
    number = ctypes.c_uint32()
    _check(_lib.bpf_xdp_query_id(ifindex, 0, ctypes.byref(number)), "query XDP")
    return number.value


@contextmanager
def program(number: int) -> Iterator[int]:
    """Open a program of anybody's by its id."""
    fd = _check(_lib.bpf_prog_get_fd_by_id(number), f"program {number}")
    try:
        yield fd
    finally:
        os.close(fd)


def _info(fd: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    size = ctypes.c_uint32(len(buffer))
    _check(_lib.bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(size)), "object info")


@dataclass(frozen=True, slots=True)
class MapUse:
    """One map: what it is, and what the kernel says that it takes."""

    number: int
    name: str
    kind: int  # enum bpf_map_type
    max_entries: int
    memory: int  # bytes


def maps_of(number: int) -> dict[int, MapUse]:
    """Return every map that a program uses, those inside of maps and those of its tail calls among them."""
    maps: dict[int, MapUse] = {}
    programs: set[int] = set()
    todo = [("program", number)]
    while todo:
        what, at = todo.pop()
        if what == "program" and at not in programs:
            programs.add(at)
            todo += [("map", one) for one in _map_ids(at)]
        elif what == "map" and at not in maps:
            maps[at], inside = _map_use(at)
            todo += inside
    return maps


def _map_ids(number: int) -> tuple[int, ...]:
    with program(number) as fd:
        ids = (ctypes.c_uint32 * 1024)()
        info = ctypes.create_string_buffer(256)
        # struct bpf_prog_info: nr_map_ids at 52, map_ids at 56.
        struct.pack_into("=IQ", info, 52, len(ids), ctypes.addressof(ids))
        _info(fd, info)
        return tuple(ids[: struct.unpack_from("=I", info, 52)[0]])


def _map_use(number: int) -> tuple[MapUse, list[tuple[str, int]]]:
    """Return a map, and the maps and programs in it."""
    fd = _check(_lib.bpf_map_get_fd_by_id(number), f"map {number}")
    try:
        info = ctypes.create_string_buffer(256)
        _info(fd, info)
        # struct bpf_map_info
        kind, _, key_size, _, entries, _, name = struct.unpack_from("=IIIIII16s", info)
        match = re.search(r"^memlock:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
        use = MapUse(number, name.rstrip(b"\0").decode(), kind, entries, int(match[1]) if match else 0)
        inside: list[tuple[str, int]] = []
        if kind in (_PROG_ARRAY, _ARRAY_OF_MAPS, _HASH_OF_MAPS):
            what = "program" if kind == _PROG_ARRAY else "map"
            inside = [(what, one) for one in _ids_in(fd, key_size)]
        return use, inside
    finally:
        os.close(fd)


def _ids_in(fd: int, key_size: int) -> list[int]:
    """Return the ids that a map of maps or of programs holds."""
    key = ctypes.create_string_buffer(key_size)
    value = ctypes.c_uint32()
    before = None
    result = []
    while _lib.bpf_map_get_next_key(fd, before, key) == 0:
        if _lib.bpf_map_lookup_elem(fd, key, ctypes.byref(value)) == 0:
            result.append(value.value)
        before = ctypes.create_string_buffer(key.raw, key_size)
    return result
