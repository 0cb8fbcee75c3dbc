"""Read the elements of an nftables set as the kernel tells them (linux/netfilter/nf_tables.h).

nft's own listing takes a kilobyte for each element. What packets change while it is read may be missed.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pointsman.kernel.errors import KernelError

FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
_NETLINK_NETFILTER = 12
_GET_ELEMENTS, _NEW_ELEMENTS = 10 << 8 | 13, 10 << 8 | 12
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP, _ACK = 1, 0x300, 4
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_KEY, _DATA, _EXPIRATION = 1, 2, 5
_TYPE = 0x3FFF
_HEADER, _ATTRIBUTE, _FAMILY = struct.Struct("=IHHII"), struct.Struct("=HH"), struct.Struct("=BBH")
_ROOM = 1 << 17


@dataclass(frozen=True, slots=True)
class Element:
    """``left`` is how many seconds it has to live, None: for ever."""

    key: bytes
    data: bytes
    left: float | None


def elements(table: str, name: str) -> Iterator[Element]:
    """The elements of a set or map of a table, as ``inet pointsman``; raise KernelError."""
    for content in _dump(table, name):
        for _, element in _attributes(content):
            yield _element(element)


def count_data(table: str, name: str) -> Counter[bytes]:
    """How many elements of a map have which data; raise KernelError."""
    found: Counter[bytes] = Counter()
    for content in _dump(table, name):
        found.update(_alike(content) or (_element(each).data for _, each in _attributes(content)))
    return found


def _alike(content: bytes) -> Counter[bytes] | None:
    """The same for elements that are laid out like the first one and have two bytes of data; None where they are not.

    There are hundreds in a message, and Python takes some microseconds to look at one.
    """
    step = _aligned(_ATTRIBUTE.unpack_from(content)[0])
    data = _place_of_data(content, step)
    if data is None or len(content) % step:
        return None
    count, label = len(content) // step, data + 2 * _ATTRIBUTE.size
    for place in (*range(_ATTRIBUTE.size), *range(data, label)):
        if content[place::step] != content[place : place + 1] * count:
            return None
    pairs = Counter(zip(content[label::step], content[label + 1 :: step], strict=True))
    return Counter({bytes(pair): number for pair, number in pairs.items()})


def _place_of_data(content: bytes, end: int) -> int | None:
    """Where the first element has its data, if these are two bytes."""
    at = _ATTRIBUTE.size
    while at + 2 * _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        if kind & _TYPE == _DATA:
            inner = _ATTRIBUTE.unpack_from(content, at + _ATTRIBUTE.size)[0]
            return at if inner == _ATTRIBUTE.size + 2 else None
        at += max(_aligned(length), _ATTRIBUTE.size)
    return None


def _element(content: bytes) -> Element:
    key = data = b""
    left: float | None = None
    for kind, value in _attributes(content):
        if kind == _KEY:
            key = _value(value)
        elif kind == _DATA:
            data = _value(value)
        elif kind == _EXPIRATION:
            left = int.from_bytes(value, "big") / 1000
    return Element(key, data, left)


def _value(nested: bytes) -> bytes:
    return next((value for kind, value in _attributes(nested) if kind == 1), b"")


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        yield kind & _TYPE, content[at + _ATTRIBUTE.size : at + length]
        at += max(_aligned(length), _ATTRIBUTE.size)


def _aligned(length: int) -> int:
    return length + 3 & ~3


def _string(kind: int, text: str) -> bytes:
    content = text.encode() + b"\0"
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content.ljust(_aligned(len(content)), b"\0")


def _dump(table: str, name: str) -> Iterator[bytes]:
    """The lists of elements, a message each."""
    family, _, table_name = table.partition(" ")
    body = _FAMILY.pack(FAMILIES[family], 0, 0) + _string(_TABLE, table_name) + _string(_SET, name)
    request = _HEADER.pack(_HEADER.size + len(body), _GET_ELEMENTS, _REQUEST | _DUMP | _ACK, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
            kernel.bind((0, 0))
            kernel.send(request)
            while True:
                for kind, message in _messages(kernel.recv(_ROOM)):
                    if kind == _DONE:
                        return
                    for what, content in _attributes(message):
                        if kind == _NEW_ELEMENTS and what == _ELEMENTS and content:
                            yield content
    except OSError as problem:
        raise KernelError(f"cannot read the map {name} of table {table}: {problem.strerror}") from None


def _messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and attributes of each; raise OSError for the kernel's refusal."""
    at = 0
    while at + _HEADER.size <= len(received):
        length, kind, _, _, _ = _HEADER.unpack_from(received, at)
        content = received[at + _HEADER.size : at + length]
        if kind in (_ERROR, _DONE) and (number := -int.from_bytes(content[:4], "little", signed=True)):
            raise OSError(number, os.strerror(number))
        yield kind, content if kind == _DONE else content[_FAMILY.size :]
        at += max(_aligned(length), _HEADER.size)
