"""The pure headers of the XDP programs, compiled for this machine and called through ctypes."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from collections.abc import Sequence
from ctypes import c_int, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests/native/native.c"
HEADERS = ROOT / "bpf/lib"
BUILT = ROOT / "build/native"
COMPILER = os.environ.get("CC", "cc")
# The loops' pragmas are clang's.
FLAGS = ["-std=gnu11", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
BUILDS = {
    "plain": ["-O2"],
    "sanitized": ["-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"],
}

WAYS = 8
OUTSIDE = -1


class Hash(ctypes.Structure):
    _fields_ = (("b", c_uint32), ("c", c_uint32))


class FlowPlace(ctypes.Structure):
    _fields_ = (("pair", c_uint32), ("tag", c_uint32))


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "is_cid_record": (c_int, [c_void_p, c_void_p, c_uint32]),
    "is_epoch_0": (c_int, [c_void_p, c_void_p, c_uint32]),
    "is_first_client_hello": (c_int, [c_void_p, c_void_p, c_uint32]),
    "node_id": (c_int, [c_void_p, c_void_p, c_uint32, c_uint16, c_uint8, c_uint8, c_uint32, c_void_p]),
    "records_judge": (c_int, [c_void_p, c_void_p, c_uint32, c_uint32, c_uint32]),
    "cookie_given": (c_int, [c_void_p, c_void_p, c_uint32, c_void_p]),
    "cookie_brought": (c_int, [c_void_p, c_void_p, c_uint32, c_void_p]),
    "bucket_take": (c_int, [c_void_p, c_uint64, c_uint64, c_uint32, c_uint64]),
    "fold": (c_uint16, [c_uint32]),
    "delta16": (c_uint32, [c_uint16, c_uint16]),
    "delta32": (c_uint32, [c_uint32, c_uint32]),
    "update": (c_uint16, [c_uint16, c_uint32]),
    "udp_update": (c_uint16, [c_uint16, c_uint32]),
    "ipv4_header_sum": (c_uint16, [ctypes.c_char_p]),
    "jhash_client4": (Hash, [c_uint32, c_uint16, c_uint32]),
    "jhash_client6": (Hash, [c_void_p, c_uint16, c_uint32]),
    "translation_is_free": (c_int, [c_uint64, c_uint32]),
    "translation_is_live": (c_int, [c_uint64, c_uint32]),
    "translation_is_same": (c_int, [c_uint64, c_uint64]),
    "translation_claimed": (c_uint64, [c_uint64, c_uint32]),
    "translation_heard": (c_uint64, [c_uint64, c_uint32, c_uint32, c_uint32, c_int]),
    "flow_counts": (c_int, [c_uint64]),
    "prefix_word": (c_uint32, [c_uint32, c_uint32]),
    "prefix_of": (None, [c_void_p, c_uint32]),
    "reciprocal_scale": (c_uint32, [c_uint32, c_uint32]),
    "flow_place": (FlowPlace, [Hash, c_uint64]),
    "flow_bucket": (c_uint32, [c_uint32, c_uint32, c_uint32]),
    "flow_swept": (c_uint64, [c_uint64, c_uint32]),
    "flow_entry": (c_uint64, [c_uint32, c_uint32, c_uint32, c_uint32]),
    "flow_tag": (c_uint32, [c_uint64]),
    "flow_label": (c_uint32, [c_uint64]),
    "flow_class": (c_uint32, [c_uint64]),
    "flow_deadline": (c_uint32, [c_uint64]),
    "flow_ticks": (c_uint32, [c_uint64]),
    "flow_left": (c_uint32, [c_uint64, c_uint32]),
    "flow_find": (c_uint32, [c_void_p, c_uint32]),
    "flow_victim": (c_uint32, [c_void_p, c_uint32, c_uint32, c_void_p]),
}


class FencedPage:
    """A page whose next one cannot be read, so that a read beyond a buffer at its end is caught."""

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        self._start = ctypes.addressof(c_uint8.from_buffer(self._pages))
        self.end = self._start + mmap.PAGESIZE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(c_void_p(self.end), ctypes.c_size_t(mmap.PAGESIZE), c_int(0)):
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, data: bytes) -> int:
        """Copy ``data`` to the page's end; return its address."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)


class Native:
    """Functions of bpf/lib by name; those that read a payload take its bytes and ``left``."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._page = FencedPage()
        for name, (result, arguments) in SIGNATURES.items():
            function = self._library[f"native_{name}"]
            function.restype, function.argtypes = result, arguments
            setattr(self, f"_{name}", function)

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)
        return self.__dict__[f"_{name}"]

    def reads(self, name: str, payload: bytes, left: int) -> bool:
        """Ask a predicate of dtls.h about a payload that lies at the end of readable memory."""
        return self._bool(getattr(self, name)(self._page.place(payload), self._page.end, left))

    def node_id_at(
        self, payload: bytes, left: int, *, start: int, span: int, shift: int, mask: int
    ) -> int | None:
        found = c_uint32()
        at = self._page.place(payload)
        read = self.node_id(at, self._page.end, left, start, span, shift, mask, ctypes.byref(found))
        return found.value if self._bool(read) else None

    def judges(self, payload: bytes, size: int, flags: int, cid_length: int) -> tuple[int, int]:
        """The fault of a datagram's records, and their kinds."""
        found = self.records_judge(self._page.place(payload), self._page.end, size, flags, cid_length)
        assert found != OUTSIDE, "read beyond the end of the buffer"
        return found & 0xFF, found >> 8

    def cookie(self, name: str, payload: bytes) -> bytes | None:
        """The cookie by cookie_given or cookie_brought, 16 bytes."""
        found = (c_uint8 * 16)()
        function = getattr(self, name)
        read = function(self._page.place(payload), self._page.end, len(payload), ctypes.byref(found))
        return bytes(found) if self._bool(read) else None

    def find(self, bucket: Sequence[int], tag: int) -> int | None:
        way: int = self.flow_find((c_uint64 * WAYS)(*bucket), tag)
        return way if way < WAYS else None

    def victim(self, bucket: Sequence[int], now: int, ways: int) -> tuple[int | None, int]:
        """Ask for the way that a new flow takes and for what it is worth."""
        worth = c_uint32()
        way = self.flow_victim((c_uint64 * WAYS)(*bucket), now, ways, ctypes.byref(worth))
        return way if way < WAYS else None, worth.value

    @staticmethod
    def _bool(answer: int) -> bool:
        assert answer != OUTSIDE, "read beyond the end of the buffer"
        return bool(answer)


def build(kind: str) -> Path:
    """Compile the library where it is older than its sources; skip the test where that is impossible."""
    if not shutil.which(COMPILER):
        pytest.skip(f"no C compiler: {COMPILER} (Debian package gcc)")
    library = BUILT / f"{kind}.so"
    sources = [SOURCE, Path(__file__), *HEADERS.glob("*.h")]
    if library.exists() and library.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return library
    BUILT.mkdir(parents=True, exist_ok=True)
    # Test workers may build at the same time: each writes its own file.
    mine = BUILT / f"{kind}.{os.getpid()}.so"
    if kind == "sanitized" and _compile(["-x", "c", os.devnull], kind, mine).returncode:
        pytest.skip(f"{COMPILER} has no sanitizers' runtime (Debian package libgcc-12-dev, of gcc's version)")
    compiled = _compile([f"-I{HEADERS}", str(SOURCE)], kind, mine)
    assert compiled.returncode == 0, compiled.stderr
    return mine.replace(library)


def _compile(source: list[str], kind: str, output: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMPILER, *FLAGS, *BUILDS[kind], *source, "-o", str(output)],
        text=True,
        capture_output=True,
        check=False,
    )
