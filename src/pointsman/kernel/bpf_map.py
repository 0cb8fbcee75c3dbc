"""Maps of the kernel's, and ring buffers."""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from pointsman.kernel.bpf_library import BpfError, Handle, check, info, library, possible_cpus, reason

BPF_ANY: Final = 0
BPF_NOEXIST: Final = 1
BPF_EXIST: Final = 2
BPF_F_MMAPABLE: Final = 1 << 10
_FIRST_BATCH: Final = 4096


class MapType(IntEnum):
    """The types of enum bpf_map_type that are told apart here."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    DEVMAP = 14
    RINGBUF = 27


_PER_CPU: Final = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map; sizes in bytes, ``type`` of enum bpf_map_type."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class Map(Handle):
    """A map in the kernel, by a descriptor of its own; its content outlives it where it is pinned or in use."""

    KIND = "bpf-map"

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """Open a pinned map; raise BpfError."""
        return cls(cls._pinned(path))

    @classmethod
    def from_id(cls, number: int) -> Self:
        """Open a map by its id; raise BpfError."""
        return cls(check(library().bpf_map_get_fd_by_id(number), f"cannot open the BPF map {number}"))

    @cached_property
    def info(self) -> MapInfo:
        *numbers, name = struct.unpack("=6I16s", info(self.fd, 40))
        kind, number, key_size, value_size, max_entries, flags = numbers
        text = name.partition(b"\0")[0].decode(errors="replace")
        return MapInfo(kind, number, key_size, value_size, max_entries, flags, text)

    @cached_property
    def _value_room(self) -> int:
        # The kernel reads and writes this much, whatever room there is: a wrong size is memory corruption.
        if self.info.type in _PER_CPU:
            return self.stride * possible_cpus()
        return self.info.value_size

    @property
    def stride(self) -> int:
        """Bytes from one value to the next, in ``mmap()`` and in a per-CPU map's values."""
        return -(-self.info.value_size // 8) * 8

    @property
    def locked(self) -> int:
        """Bytes of kernel memory that the map takes, as the kernel accounts for it; raise BpfError."""
        try:
            lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
        except OSError as problem:
            raise BpfError(f"cannot ask about the map {self.info.name}: {problem.strerror}") from None
        return next((int(line.split()[1]) for line in lines if line.startswith("memlock:")), 0)

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None; of a per-CPU map all CPUs' in a row, ``stride`` bytes each. Raise BpfError."""
        room = ctypes.create_string_buffer(self._value_room)
        result = library().bpf_map_lookup_elem(self.fd, self._key(key), room)
        if result == -errno.ENOENT:
            return None
        check(result, f"cannot read the map {self.info.name}")
        return room.raw

    def lookup_percpu(self, key: bytes) -> list[bytes] | None:
        """A per-CPU map's values, one for each possible CPU, or None; raise BpfError."""
        found = self.lookup(key)
        if found is None:
            return None
        size = self.info.value_size
        return [found[at : at + size] for at in range(0, len(found), self.stride)]

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        """Set an element; raise BpfError. In a prog array the value is ``Program.as_value``."""
        result = library().bpf_map_update_elem(
            self.fd, self._key(key), self._sized(value, self._value_room), flags
        )
        check(result, f"cannot write to the map {self.info.name}")

    def update_percpu(self, key: bytes, value: bytes) -> None:
        """Set an element of a per-CPU map to one value on every CPU; raise BpfError."""
        self._sized(value, self.info.value_size)
        self.update(key, value.ljust(self.stride, b"\0") * possible_cpus())

    def delete(self, key: bytes) -> bool:
        """Whether the element was there; raise BpfError."""
        result = library().bpf_map_delete_elem(self.fd, self._key(key))
        if result == -errno.ENOENT:
            return False
        check(result, f"cannot remove from the map {self.info.name}")
        return True

    def keys(self) -> Iterator[bytes]:
        """Every key; what is yielded may be deleted meanwhile. Raise BpfError.

        If somebody else deletes the key behind it the kernel starts anew, and keys come twice.
        """
        key = self._next_key(None)
        while key is not None:
            following = self._next_key(key)
            yield key
            key = following

    def _next_key(self, key: bytes | None) -> bytes | None:
        room = ctypes.create_string_buffer(self.info.key_size)
        result = library().bpf_map_get_next_key(self.fd, key, room)
        if result == -errno.ENOENT:
            return None
        check(result, f"cannot list the map {self.info.name}")
        return room.raw

    def update_batch(self, keys: bytes, values: bytes, count: int) -> None:
        """Set ``count`` elements, keys and values in a row each; raise BpfError, the first of them being set."""
        self._sized(keys, self.info.key_size * count)
        self._sized(values, self._value_room * count)
        done = ctypes.c_uint32(count)
        if count == 0:
            return
        result = library().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(done), None)
        if result < 0:
            # The kernel leaves the number as it was where it did not come to the first element.
            how_far = f", {done.value} of {count} elements done" if done.value < count else ""
            raise BpfError(f"cannot write to the map {self.info.name}{how_far}: {reason(-result)}", -result)

    def delete_batch(self, keys: bytes, count: int) -> int:
        """Delete ``count`` keys that stand in a row, and return how many were there; raise BpfError."""
        size = self.info.key_size
        self._sized(keys, size * count)
        given = ctypes.create_string_buffer(keys, len(keys) + 1)
        deleted = at = 0
        while at < count:
            done = ctypes.c_uint32(count - at)
            here = ctypes.addressof(given) + at * size
            result = library().bpf_map_delete_batch(self.fd, here, ctypes.byref(done), None)
            if result not in (0, -errno.ENOENT):
                check(result, f"cannot remove from the map {self.info.name}")
            deleted += done.value
            # The kernel stops at the first key that is not there.
            at += done.value + (result != 0)
        return deleted

    def items_batch(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value, thousands to a call; what changes meanwhile may be missed. Raise BpfError."""
        key_size, value_size, count = self.info.key_size, self._value_room, _FIRST_BATCH
        here: Any = None
        while True:
            keys = ctypes.create_string_buffer(key_size * count)
            values = ctypes.create_string_buffer(value_size * count)
            there = ctypes.create_string_buffer(max(key_size, 8))
            done = ctypes.c_uint32(count)
            result = library().bpf_map_lookup_batch(
                self.fd, here, there, keys, values, ctypes.byref(done), None
            )
            if result == -errno.ENOSPC:
                count *= 2  # one bucket of the hash holds more
                continue
            if result not in (0, -errno.ENOENT):
                check(result, f"cannot read the map {self.info.name}")
            all_keys, all_values = keys.raw, values.raw
            for index in range(done.value):
                key = all_keys[index * key_size : (index + 1) * key_size]
                yield key, all_values[index * value_size : (index + 1) * value_size]
            if result != 0:
                return
            here = there

    def mmap(self, *, writable: bool = True) -> mmap.mmap:
        """The memory of an array with BPF_F_MMAPABLE, element i at ``i * stride``; raise BpfError.

        It is rounded up to whole pages, outlives ``close()``, and is to be closed by the caller.
        """
        length = -(-self.stride * self.info.max_entries // mmap.PAGESIZE) * mmap.PAGESIZE
        rights = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            return mmap.mmap(self.fd, length, flags=mmap.MAP_SHARED, prot=rights)
        except OSError as problem:
            number = problem.errno or 0
            raise BpfError(f"cannot map the memory of {self.info.name}: {reason(number)}", number) from None

    def _key(self, key: bytes) -> bytes:
        return self._sized(key, self.info.key_size)

    def _sized(self, content: bytes, size: int) -> bytes:
        if len(content) != size:
            raise BpfError(f"the map {self.info.name} takes {size} bytes here, not {len(content)}")
        return content


class RingBuffer:
    """The reader of a ring buffer map; a context manager. There should be one reader only.

    The map may be closed meanwhile: this holds the memory.
    """

    def __init__(self, ring: Map) -> None:
        self._records: list[bytes] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        # Kept here: libbpf calls it as long as the reader lives.
        self._callback = kind(self._take)
        self._reader = library().ring_buffer__new(ring.fd, self._callback, None, None)
        if not self._reader:
            number = ctypes.get_errno()
            raise BpfError(f"cannot read the ring buffer {ring.info.name}: {reason(number)}", number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._reader:
            reader, self._reader = self._reader, None
            library().ring_buffer__free(reader)

    @property
    def epoll_fd(self) -> int:
        """Readable when there are records; for select and the like. It closes with this object."""
        return int(library().ring_buffer__epoll_fd(self._reader))

    def poll(self, timeout_ms: int) -> list[bytes]:
        """Wait for records (-1: for ever) and return all there are, none at the timeout; raise BpfError."""
        return self._taken(library().ring_buffer__poll(self._reader, timeout_ms))

    def consume(self) -> list[bytes]:
        """Return all records there are, without waiting; raise BpfError."""
        return self._taken(library().ring_buffer__consume(self._reader))

    def _take(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def _taken(self, result: int) -> list[bytes]:
        if result != -errno.EINTR:
            check(result, "cannot read a ring buffer")
        records, self._records = self._records, []
        return records
