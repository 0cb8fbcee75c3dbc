"""A thin ctypes wrapper on libbpf, as much of it as the rig needs.

It goes when the XDP data plane brings the package its own.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

XDP_FLAGS_DRV_MODE = 1 << 2
BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_lib.bpf_object__open_file.restype = ctypes.c_void_p
_lib.bpf_object__find_program_by_name.restype = ctypes.c_void_p
for _name in (
    "bpf_object__load",
    "bpf_object__close",
    "bpf_object__find_program_by_name",
    "bpf_object__find_map_fd_by_name",
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

    def __init__(self, path: Path, name: str) -> None:
        self._object = _lib.bpf_object__open_file(str(path).encode(), None)
        if not self._object:
            raise BpfError(f"{path}: {os.strerror(ctypes.get_errno())}")
        _check(_lib.bpf_object__load(self._object), f"{path}: load")
        program = _lib.bpf_object__find_program_by_name(self._object, name.encode())
        if not program:
            raise BpfError(f"{path}: no program {name}")
        self.fd = _check(_lib.bpf_program__fd(program), name)

    def close(self) -> None:
        if self._object:
            _lib.bpf_object__close(self._object)
            self._object = None

    def attach(self, ifindex: int) -> None:
        """Attach to an interface of this thread's namespace, in driver mode and no other."""
        _check(_lib.bpf_xdp_attach(ifindex, self.fd, XDP_FLAGS_DRV_MODE, None), "attach XDP in driver mode")

    def _map(self, name: str) -> int:
        return _check(_lib.bpf_object__find_map_fd_by_name(self._object, name.encode()), f"map {name}")

    def write(self, name: str, value: bytes) -> None:
        """Set element 0 of an array map."""
        key = ctypes.c_uint32(0)
        _check(_lib.bpf_map_update_elem(self._map(name), ctypes.byref(key), value, 0), f"write {name}")

    def read_percpu(self, name: str, size: int, index: int = 0) -> list[bytes]:
        """Return element ``index`` of a per-CPU array map, ``size`` bytes (a multiple of 8) for each CPU."""
        cpus = _check(_lib.libbpf_num_possible_cpus(), "possible CPUs")
        key = ctypes.c_uint32(index)
        value = ctypes.create_string_buffer(size * cpus)
        _check(_lib.bpf_map_lookup_elem(self._map(name), ctypes.byref(key), value), f"read {name}")
        return [value.raw[at : at + size] for at in range(0, size * cpus, size)]

    def write_percpu(self, name: str, value: bytes, index: int = 0) -> None:
        """Set element ``index`` of a per-CPU array map to one value (a multiple of 8 bytes) on each CPU."""
        cpus = _check(_lib.libbpf_num_possible_cpus(), "possible CPUs")
        key = ctypes.c_uint32(index)
        _check(_lib.bpf_map_update_elem(self._map(name), ctypes.byref(key), value * cpus, 0), f"write {name}")

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
