"""Recorded sessions of real DTLS stacks: what their clients sent, datagram by datagram (tests/corpus/dtls)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent / "dtls"


@dataclass(frozen=True)
class Recorded:
    """``cid_length`` is that of the connection IDs that the client writes, 0 where it writes none."""

    stack: str
    what: str
    cid_length: int
    datagrams: tuple[bytes, ...]

    @property
    def dtls13(self) -> bool:
        return self.stack.endswith("dtls13")

    def __str__(self) -> str:
        return f"{self.stack}: {self.what}"


@cache
def sessions() -> tuple[Recorded, ...]:
    return tuple(session for path in sorted(HERE.glob("*.txt")) for session in _read(path))


def _read(path: Path) -> Iterator[Recorded]:
    for block in path.read_text().split("\n== ")[1:]:
        what, cid, *datagrams = block.split("\n")
        found = tuple(bytes.fromhex(line) for line in datagrams if line)
        yield Recorded(path.stem, what, int(cid.removeprefix("cid ")), found)
