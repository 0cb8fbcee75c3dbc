"""Turn the multihomed servers of the document into those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from pointsman.config.addresses import AddressError
from pointsman.config.document import Document
from pointsman.config.lines import Path
from pointsman.config.multihome_tables import MultihomeTable, UplinkTable
from pointsman.config.prefixes import port_ranges, prefix
from pointsman.config.report import Report
from pointsman.config.wording import quoted
from pointsman.model import Address, Family, Multihome, MultihomeMode, PortRange, Uplink, family_of

MOST_UPLINKS = 100
"""In the file: each has a number, a routing table and a priority of its own."""

_OF_MODE = {"address": "address", "mark_mask": "address", "cgroup": "socket", "unit": "socket"}


def multihomes(document: Document, report: Report) -> tuple[Multihome, ...]:
    """The servers; what is wrong with one, or between two of them, is reported."""
    placed = [
        (("multihome", index), found)
        for index, table in enumerate(document.multihome)
        if (found := _multihome(("multihome", index), table, report)) is not None
    ]
    total = sum(len(one.uplinks) for _, one in placed)
    if total > MOST_UPLINKS:
        report.error(placed[-1][0], f"{total} uplinks in the file", f"at most {MOST_UPLINKS}")
    by_mark = [(path, one) for path, one in placed if one.mode is MultihomeMode.ADDRESS]
    for path, one in by_mark:
        _mask((*path, "mark_mask"), one.mark_mask, by_mark[0], total, report)
    for index, (path, one) in enumerate(by_mark):
        for other_path, other in by_mark[:index]:
            _apart(path, one, other_path, other, report)
    return tuple(one for _, one in placed)


def _multihome(path: Path, table: MultihomeTable, report: Report) -> Multihome | None:
    if report.broken(path):
        return None
    known = not report.broken((*path, "mode"))
    for key, mode in _OF_MODE.items():
        if known and key in table.model_fields_set and table.mode != mode and not report.broken((*path, key)):
            report.error(
                (*path, key), f'{key} with mode = "{table.mode}"', f'leave it out; it is for "{mode}"'
            )
    ports = tuple(port_ranges((*path, "ports"), table.ports, report))
    if not table.ports and not report.broken((*path, "ports")):
        report.error((*path, "ports"), "ports is empty", "at least one")
    if not table.uplink and not report.broken((*path, "uplink")):
        report.error(path, "no [[multihome.uplink]]", "one for each uplink")
    return Multihome(
        table.name,
        MultihomeMode(table.mode),
        ports,
        tuple(_uplinks(path, table, report)),
        tuple(_server_addresses(path, table, report)),
        table.mark_mask,
        _cgroup(path, table, report),
    )


def _server_addresses(path: Path, table: MultihomeTable, report: Report) -> Iterator[Address]:
    where = (*path, "address")
    if table.mode != "address" or report.broken((*path, "mode")):
        return
    if not table.address and not report.broken(where):
        report.error(
            path, 'mode = "address" without address', "the private address that the server is bound to"
        )
    for own, place in _one_of_each((*path, "address"), table.address, report):
        if own.is_loopback or own.is_link_local:
            what = "loopback" if own.is_loopback else "link-local"
            report.error(place, f"address {own} is a {what} address", "a private address, on lo for example")
        yield own


def _cgroup(path: Path, table: MultihomeTable, report: Report) -> str:
    if table.mode != "socket":
        return ""
    if table.cgroup is not None and table.unit is not None:
        report.error((*path, "unit"), "cgroup and unit", "one of them")
    if table.cgroup is not None:
        if ".." in table.cgroup.split("/"):
            report.error(
                (*path, "cgroup"), f"cgroup {quoted(table.cgroup)} leads upwards", "a path without .."
            )
        return table.cgroup.strip("/")
    if table.unit is None:
        if not any(report.broken((*path, key)) for key in ("cgroup", "unit")):
            report.error(path, 'mode = "socket" without cgroup or unit', 'unit = "unbound.service"')
        return ""
    return cgroup_of(table.unit)


def cgroup_of(unit: str) -> str:
    """Where systemd puts a system unit: services into system.slice, a-b.slice into a.slice (systemd.slice(5)).

    Instances of a template have a slice of their own in there, where the template's name is escaped as one word.
    """
    name, _, kind = unit.rpartition(".")
    template, instantiated, _ = name.partition("@")
    if kind == "service" and instantiated:
        return f"system.slice/system-{_escaped(template)}.slice/{unit}"
    if kind == "service":
        return f"system.slice/{unit}"
    parts = name.split("-")
    return "/".join(f"{'-'.join(parts[:length])}.slice" for length in range(1, len(parts) + 1))


def _escaped(word: str) -> str:
    """As systemd-escape(1) has it, for what unit names are made of."""
    dot, rest = (r"\x2e", word[1:]) if word.startswith(".") else ("", word)
    return dot + rest.replace("\\", r"\x5c").replace("-", r"\x2d")


def _uplinks(path: Path, table: MultihomeTable, report: Report) -> Iterator[Uplink]:
    first: dict[str, Path] = {}
    for index, one in enumerate(table.uplink):
        where = (*path, "uplink", index)
        if report.broken(where):
            continue
        other = first.setdefault(one.interface, where)
        if other != where:
            report.error(
                (*where, "interface"),
                f"interface {quoted(one.interface)} is that of the uplink on line {report.line(other)}",
                "each interface once",
            )
        yield _uplink(where, one, report)


def _uplink(path: Path, table: UplinkTable, report: Report) -> Uplink:
    found = []
    for index, text in enumerate(table.address):
        try:
            found.append(prefix(text))
        except AddressError as error:
            report.error((*path, "address", index), f"address {error.what}", error.allowed)
    gateways = tuple(own for own, _ in _one_of_each((*path, "gateway"), table.gateway, report))
    return Uplink(table.interface, tuple(dict.fromkeys(found)), gateways)


def _one_of_each(path: Path, texts: list[str], report: Report) -> Iterator[tuple[Address, Path]]:
    """Addresses without a port, one of a family at most; an IPv6 router's is mostly link-local."""
    seen: set[Family] = set()
    for index, text in enumerate(texts):
        where = (*path, index)
        try:
            own: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
        except AddressValueError:
            report.error(
                where, f"{path[-1]} {quoted(text)} is not an IP address", "without a port or a length"
            )
            continue
        zone = isinstance(own, IPv6Address) and own.scope_id is not None
        if own.is_multicast or own.is_unspecified or zone:
            report.error(
                where, f"{path[-1]} {quoted(text)} is not one machine's", "a unicast address, without a zone"
            )
        elif family_of(own) in seen:
            report.error(
                where,
                f"{path[-1]} {quoted(text)} is a second one of IPv{own.version}",
                "one of each family at most",
            )
        else:
            seen.add(family_of(own))
            yield own, where


def _mask(path: Path, mask: int, first: tuple[Path, Multihome], total: int, report: Report) -> None:
    if report.broken(path):
        return
    bits = mask >> (mask & -mask).bit_length() - 1
    if bits & bits + 1:
        report.error(path, f"mark_mask {mask:#x} has a gap", "neighbouring bits: 0x00ff0000")
    elif total > bits:
        report.error(
            path, f"mark_mask {mask:#x} has room for {bits} uplinks, and {total} are in the file", "more bits"
        )
    elif mask != first[1].mark_mask:
        report.error(
            path,
            f"mark_mask {mask:#x} is not that of multihome {first[1].name} on line {report.line(first[0])}",
            "the same for all",
        )


def _apart(path: Path, one: Multihome, other_path: Path, other: Multihome, report: Report) -> None:
    shared = {own.interface for own in one.uplinks} & {own.interface for own in other.uplinks}
    if shared and _overlap(one.ports, other.ports):
        report.error(
            (*path, "ports"),
            f"multihome {other.name} on line {report.line(other_path)} has one of these ports at {min(shared)} ",
            "ports of its own, or other uplinks",
        )


def _overlap(one: tuple[PortRange, ...], other: tuple[PortRange, ...]) -> bool:
    return any(a.first <= b.last and b.first <= a.last for a in one for b in other)
