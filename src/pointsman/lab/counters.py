"""The kernel's own counters of one namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

CHECKSUM_ERRORS: Final = ("UdpInCsumErrors", "Udp6InCsumErrors")


def parse_snmp(text: str) -> dict[str, int]:
    """``/proc/net/snmp``: pairs of lines, names then values. The key is "UdpInCsumErrors"."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        prefix, *fields = names.split()
        found.update(
            (prefix.rstrip(":") + field, int(value))
            for field, value in zip(fields, values.split()[1:], strict=True)
        )
    return found


def parse_snmp6(text: str) -> dict[str, int]:
    """``/proc/net/snmp6``: a name and a value a line."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def read() -> dict[str, int]:
    """All SNMP counters of both families, in the current thread's namespace."""
    here = Path("/proc/thread-self/net")
    return parse_snmp((here / "snmp").read_text()) | parse_snmp6((here / "snmp6").read_text())


def total(counters: Mapping[str, int], names: Iterable[str] = CHECKSUM_ERRORS) -> int:
    return sum(counters.get(name, 0) for name in names)
