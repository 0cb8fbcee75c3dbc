"""Read prefixes and ranges of ports, and refuse those that are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

from pointsman.config.addresses import AddressError
from pointsman.config.lines import Path
from pointsman.config.report import Report
from pointsman.config.wording import quoted, shown
from pointsman.model import PortRange, Prefix

_FORMS = 'a prefix: "192.0.2.0/24", "2001:db8::/32", or an address'
_RANGE_FORMS = 'a port or a range of ports: 5684, "6000-6010"'


def prefix(text: str) -> Prefix:
    """Read ``192.0.2.0/24``, or an address for itself alone; raises AddressError."""
    _, slash, length = text.partition("/")
    if "%" in text or (
        slash and not length.isdecimal()
    ):  # a zone, or a mask in dots, which may be either way round
        raise AddressError(f"{quoted(text)} is no prefix", _FORMS)
    try:
        return IPv6Network(text, strict=False) if ":" in text else IPv4Network(text, strict=False)
    except ValueError:
        raise AddressError(f"{quoted(text)} is no prefix", _FORMS) from None


def prefixes(path: Path, texts: Iterable[str], report: Report) -> tuple[Prefix, ...]:
    """Read a list of prefixes; what is none is reported, and what has bits behind its length is warned of."""
    found: dict[Prefix, None] = {}
    for index, text in enumerate(texts):
        where = (*path, index)
        if report.broken(where):
            continue
        try:
            one = prefix(text)
        except AddressError as error:
            report.error(where, f"{path[-1]} {error.what}", error.allowed)
            continue
        if (
            text.partition("/")[0].lower() != str(one.network_address)
            and "/" in text
            and _has_host_bits(text, one)
        ):
            report.warn(where, f"{path[-1]} {quoted(text)} has bits behind its length", f"{one}")
        found[one] = None
    return tuple(found)


def _has_host_bits(text: str, one: Prefix) -> bool:
    try:
        type(one)(text)
    except ValueError:
        return True
    return False


def port_range(value: int | str) -> PortRange:
    """Read 5684, ``"5684"`` or ``"6000-6010"``; raises AddressError."""
    match = (
        re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(value)) if not isinstance(value, bool) else None
    )
    if match:
        first, last = int(match[1]), int(match[2] or match[1])
        if 1 <= first <= last <= 65535:
            return PortRange(first, last)
    raise AddressError(
        f"{shown(value)} is no port or range of ports", f"{_RANGE_FORMS}; 1..65535, the lower first"
    )


def port_ranges(path: Path, values: Iterable[int | str], report: Report) -> Iterator[PortRange]:
    """Read a list of ports and ranges; what is none is reported."""
    for index, value in enumerate(values):
        where = (*path, index)
        if report.broken(where):
            continue
        try:
            yield port_range(value)
        except AddressError as error:
            report.error(where, f"{path[-1]} {error.what}", error.allowed)
