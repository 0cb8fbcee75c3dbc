"""The types that a BPF object file was compiled with: as much of BTF as the tests need (kernel's bpf/btf.rst)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)
EXTRA = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
PER_MEMBER = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}


@dataclass(frozen=True, slots=True)
class Type:
    kind: int
    name: str
    size: int
    """Or the type that it refers to."""
    extra: bytes
    members: tuple[tuple[str, int, int], ...]
    """Name, type and bit offset of a struct's members; name and value, twice, of an enum's."""


class Btf:
    def __init__(self, data: bytes) -> None:
        header, offset, length, names, _ = struct.unpack_from("<4xIIIII", data)
        self._names = data[header + names :]
        self._types = [Type(0, "", 0, b"", ())]
        at, end = header + offset, header + offset + length
        while at < end:
            at = self._read(data, at)

    def _read(self, data: bytes, at: int) -> int:
        name, info, size = struct.unpack_from("<III", data, at)
        kind, count = info >> 24 & 31, info & 0xFFFF
        at += 12
        extra = data[at : at + EXTRA.get(kind, 0)]
        at += len(extra)
        members = []
        step = PER_MEMBER.get(kind, 0)
        for _ in range(count if step else 0):
            first, second, third = struct.unpack_from("<IIi", data.ljust(at + 12, b"\0"), at)
            members.append((self._text(first), second, third if step == 12 else second))
            at += step
        self._types.append(Type(kind, self._text(name), size, extra, tuple(members)))
        return at

    def _text(self, offset: int) -> str:
        return self._names[offset : self._names.index(b"\0", offset)].decode(errors="replace")

    def size_of(self, number: int) -> int:
        own = self._types[number]
        if own.kind == ARRAY:
            element, _, count = struct.unpack("<III", own.extra)
            return int(count) * self.size_of(element)
        if own.kind in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG):
            return self.size_of(own.size)
        return 8 if own.kind == PTR else own.size

    def struct(self, name: str) -> tuple[int, dict[str, tuple[int, int]]]:
        """Size of a struct, and offset and size of its members, in bytes."""
        own = next(each for each in self._types if (each.kind, each.name) == (STRUCT, name))
        return own.size, {
            member: (offset // 8, self.size_of(number)) for member, number, offset in own.members
        }

    def enum(self, name: str) -> dict[str, int]:
        own = next(each for each in self._types if (each.kind, each.name) == (ENUM, name))
        return {member: value for member, value, _ in own.members}


def read(path: Path) -> Btf:
    """The section .BTF of an ELF object."""
    data = path.read_bytes()
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<II16xQQ", data, table + each * size) for each in range(count)]
    start = sections[names][2]
    for name, _, offset, length in sections:
        end = data.index(b"\0", start + name)
        if data[start + name : end] == b".BTF":
            return Btf(data[offset : offset + length])
    raise ValueError(f"{path} has no types")
