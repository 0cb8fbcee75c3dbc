"""libbpf.so.1, loaded when it is first needed, and what it answers as one line.

libbpf prints nothing by itself: its warnings are kept for the error that they explain.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from pointsman.kernel.errors import KernelError

NAME: Final = "libbpf.so.1"
_KERNELS_OWN_ENOTSUPP: Final = 524  # not in errno.h, yet it reaches user space
_LONGEST_WARNING: Final = (1 << 24) + (1 << 16)  # libbpf's largest verifier log, and words around it
_PRINTER: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_warnings: deque[str] = deque(maxlen=50)

_ADDRESS, _INT, _U32, _U64, _TEXT = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_char_p,
)
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "libbpf_major_version": (_U32, ()),
    "libbpf_set_print": (_ADDRESS, (_PRINTER,)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "bpf_object__open_file": (_ADDRESS, (_TEXT, _ADDRESS)),
    "bpf_object__load": (_INT, (_ADDRESS,)),
    "bpf_object__close": (None, (_ADDRESS,)),
    "bpf_object__next_map": (_ADDRESS, (_ADDRESS, _ADDRESS)),
    "bpf_object__find_map_by_name": (_ADDRESS, (_ADDRESS, _TEXT)),
    "bpf_object__find_program_by_name": (_ADDRESS, (_ADDRESS, _TEXT)),
    "bpf_program__fd": (_INT, (_ADDRESS,)),
    "bpf_map__fd": (_INT, (_ADDRESS,)),
    "bpf_map__name": (_TEXT, (_ADDRESS,)),
    "bpf_map__type": (_INT, (_ADDRESS,)),
    "bpf_map__key_size": (_U32, (_ADDRESS,)),
    "bpf_map__value_size": (_U32, (_ADDRESS,)),
    "bpf_map__max_entries": (_U32, (_ADDRESS,)),
    "bpf_map__map_flags": (_U32, (_ADDRESS,)),
    "bpf_map__set_max_entries": (_INT, (_ADDRESS, _U32)),
    "bpf_map__reuse_fd": (_INT, (_ADDRESS, _INT)),
    "bpf_map_lookup_elem": (_INT, (_INT, _ADDRESS, _ADDRESS)),
    "bpf_map_update_elem": (_INT, (_INT, _ADDRESS, _ADDRESS, _U64)),
    "bpf_map_delete_elem": (_INT, (_INT, _ADDRESS)),
    "bpf_map_get_next_key": (_INT, (_INT, _ADDRESS, _ADDRESS)),
    "bpf_map_lookup_batch": (_INT, (_INT, *(_ADDRESS,) * 6)),
    "bpf_map_update_batch": (_INT, (_INT, *(_ADDRESS,) * 4)),
    "bpf_map_delete_batch": (_INT, (_INT, *(_ADDRESS,) * 3)),
    "bpf_map_get_fd_by_id": (_INT, (_U32,)),
    "bpf_prog_get_fd_by_id": (_INT, (_U32,)),
    "bpf_prog_test_run_opts": (_INT, (_INT, _ADDRESS)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _ADDRESS, _ADDRESS)),
    "bpf_obj_pin": (_INT, (_INT, _TEXT)),
    "bpf_obj_get": (_INT, (_TEXT,)),
    "bpf_link_create": (_INT, (_INT, _INT, _INT, _ADDRESS)),
    "bpf_link_update": (_INT, (_INT, _INT, _ADDRESS)),
    "bpf_xdp_query": (_INT, (_INT, _INT, _ADDRESS)),
    "bpf_tc_hook_create": (_INT, (_ADDRESS,)),
    "bpf_tc_hook_destroy": (_INT, (_ADDRESS,)),
    "bpf_tc_attach": (_INT, (_ADDRESS, _ADDRESS)),
    "bpf_tc_detach": (_INT, (_ADDRESS, _ADDRESS)),
    "bpf_tc_query": (_INT, (_ADDRESS, _ADDRESS)),
    "ring_buffer__new": (_ADDRESS, (_INT, _ADDRESS, _ADDRESS, _ADDRESS)),
    "ring_buffer__free": (None, (_ADDRESS,)),
    "ring_buffer__poll": (_INT, (_ADDRESS, _INT)),
    "ring_buffer__consume": (_INT, (_ADDRESS,)),
    "ring_buffer__epoll_fd": (_INT, (_ADDRESS,)),
}


class BpfError(KernelError):
    """libbpf or the kernel refused; ``number`` is the errno (0: none), ``log`` what libbpf said in full."""

    def __init__(self, message: str, number: int = 0, log: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.log = log


def _open() -> ctypes.CDLL:
    return ctypes.CDLL(NAME, use_errno=True)


@cache
def library() -> ctypes.CDLL:
    """Load libbpf, once; raise BpfError where it is missing or too old."""
    try:
        loaded = _open()
    except OSError:
        raise BpfError(f"{NAME} is not installed (Debian: apt install libbpf1)") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise BpfError(f"{NAME} is too old: it has no {name}; libbpf 1.0 or later is needed") from None
        function.restype, function.argtypes = result, arguments
    if loaded.libbpf_major_version() < 1:
        raise BpfError(f"{NAME} is too old: libbpf 1.0 or later is needed")
    loaded.libbpf_set_print(_listener)
    return loaded


def _hear(level: int, pattern: bytes, arguments: int) -> int:
    # A va_list can be formatted once only, so the room must do at the first go. As an argument it is a pointer
    # on all of Linux's 64-bit machines, whether the ABI says array, pointer or large structure.
    if level == 0:
        room = ctypes.create_string_buffer(_LONGEST_WARNING)
        _vsnprintf()(room, len(room), pattern, arguments)
        _warnings.append(room.value.decode(errors="replace"))
    return 0


_listener: Final = _PRINTER(_hear)  # libbpf calls it as long as the process lives


@cache
def _vsnprintf() -> Any:
    function = ctypes.CDLL(None).vsnprintf
    function.argtypes = (_ADDRESS, ctypes.c_size_t, _TEXT, _ADDRESS)
    return function


def forget_warnings() -> None:
    _warnings.clear()


def warnings() -> str:
    """What libbpf has warned of since ``forget_warnings()``."""
    return "".join(_warnings)


def reason(number: int) -> str:
    """An errno in words."""
    if number in (errno.EPERM, errno.EACCES):
        return f"{os.strerror(number)}; run as root (CAP_BPF, CAP_NET_ADMIN)"
    if number == _KERNELS_OWN_ENOTSUPP:
        return "not supported by this kernel"
    return os.strerror(number)


def check(result: int, what: str) -> int:
    """Return ``result``; raise BpfError where it is a negative errno."""
    if result < 0:
        raise BpfError(f"{what}: {reason(-result)}", -result)
    return result


def info(fd: int, size: int) -> bytes:
    """The first ``size`` bytes of struct bpf_map_info, bpf_prog_info or bpf_link_info; raise BpfError."""
    room = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    check(library().bpf_obj_get_info_by_fd(fd, room, ctypes.byref(length)), "cannot ask about a BPF object")
    return room.raw


def possible_cpus() -> int:
    """How many values an element of a per-CPU map has: CPUs that may ever be there, not those online."""
    return check(library().libbpf_num_possible_cpus(), "cannot count the CPUs")


class Handle:
    """A file descriptor of a BPF object that this object owns; a context manager that closes it.

    The descriptor is closed on exec. Nothing closes it when the object is merely forgotten.
    """

    KIND = ""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def pin(self, path: Path) -> None:
        """Keep the object in the kernel under this path of a bpffs; raise BpfError, also if the path is taken."""
        if "." in path.name:  # EPERM would say nothing about it
            raise BpfError(f"cannot pin {path}: the kernel allows no dot in such a name")
        check(library().bpf_obj_pin(self.fd, os.fsencode(path)), f"cannot pin {path}")

    @classmethod
    def _pinned(cls, path: Path) -> int:
        fd = check(library().bpf_obj_get(os.fsencode(path)), f"cannot open {path}")
        # The kernel gives whatever is pinned there; information about another kind would be misread.
        kind = Path(f"/proc/self/fd/{fd}").readlink().name.replace("_", "-")
        if cls.KIND not in kind:
            os.close(fd)
            raise BpfError(f"cannot open {path}: it is no {cls.KIND} but a {kind}")
        return fd


def unpin(path: Path) -> None:
    """Remove a pin, if it is there; raise BpfError. An object that nothing else holds goes with it."""
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        raise BpfError(f"cannot remove {path}: {reason(problem.errno or 0)}", problem.errno or 0) from None
