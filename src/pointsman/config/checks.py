"""Turn the checks of a service into those of the model, and report those that make no sense."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from pointsman.config.addresses import AddressError, node_address
from pointsman.config.check_tables import CheckTable, duration_text
from pointsman.config.check_terms import coap_terms, http_terms, udp_terms
from pointsman.config.document import ServiceTable
from pointsman.config.lines import Path
from pointsman.config.placed import PlacedListener
from pointsman.config.report import Report
from pointsman.config.wording import one_of, quoted
from pointsman.model import Address, Check, CheckKind, family_of
from pointsman.model.health import ScriptTerms, Terms, TlsTerms

_HTTP = ("http", "https")
_OF_KINDS: dict[str, tuple[str, ...]] = {
    "method": _HTTP,
    "path": (*_HTTP, "coap"),
    "host": _HTTP,
    "codes": (*_HTTP, "coap"),
    "body": _HTTP,
    "body_sha256": _HTTP,
    "server_name": ("tls", "https"),
    "verify": ("tls", "https"),
    "ca": ("tls", "https"),
    "send": ("udp",),
    "send_hex": ("udp",),
    "expect": ("udp",),
    "expect_hex": ("udp",),
    "command": ("script",),
}
_OVER = {
    "tcp": ("tcp", "tls", "http", "https", "icmp", "script"),
    "udp": ("udp", "dtls", "coap", "icmp", "script"),
    "dtls": ("udp", "dtls", "icmp", "script"),
}
"""What can be asked at a service's own port, by its protocol."""


def checks_of(
    path: Path, table: ServiceTable, listeners: Sequence[PlacedListener], report: Report
) -> tuple[Check, ...]:
    """The service's checks; one that does not fit it is reported."""
    if "require" in table.model_fields_set and not table.check and not report.broken((*path, "check")):
        report.error((*path, "require"), "require without checks", "[[service.check]], or no require")
    found: dict[Check, Path] = {}
    for index, one in enumerate(table.check):
        where = (*path, "check", index)
        if report.broken(where) or report.broken((*where, "type")):
            continue
        check = _check(where, one, table, listeners, report)
        other = found.setdefault(check, where)
        if other != where and not _touched(where, one, report):
            report.error(where, f"the same check as on line {report.line(other)}", "each check once")
    return tuple(found)


def _touched(where: Path, table: CheckTable, report: Report) -> bool:
    """Whether something in the check is wrong, so that it may not be what it looks like."""
    return any(report.broken((*where, key)) for key in type(table).model_fields)


def _check(
    path: Path,
    table: CheckTable,
    service: ServiceTable,
    listeners: Sequence[PlacedListener],
    report: Report,
) -> Check:
    _keys(path, table, report)
    _times(path, table, report)
    _port(path, table, service, report)
    if table.interface in (".", ".."):  # which the pattern lets pass, and the kernel does not
        report.error((*path, "interface"), f"interface {quoted(table.interface)} is no interface name")
    return Check(
        kind=CheckKind(table.type),
        port=table.port,
        interval=table.interval,
        timeout=table.timeout,
        rise=table.rise,
        fall=table.fall,
        jitter=table.jitter,
        fast_interval=table.fast_interval,
        sources=_sources(path, table, listeners, report),
        interface=table.interface,
        terms=_terms(path, table, report),
    )


def _keys(path: Path, table: CheckTable, report: Report) -> None:
    """Report keys of other kinds of check."""
    for key, kinds in _OF_KINDS.items():
        if key in table.model_fields_set and table.type not in kinds and not report.broken((*path, key)):
            report.error(
                (*path, key),
                f"{key} on a check of type {quoted(table.type)}",
                f"leave it out; it is for {one_of(kinds)}",
            )
    for key in ("source", "interface"):
        if table.type == "script" and key in table.model_fields_set and not report.broken((*path, key)):
            report.error(
                (*path, key),
                f'{key} on a check of type "script", which opens its sockets itself',
                "leave it out",
            )


def _times(path: Path, table: CheckTable, report: Report) -> None:
    known = not any(report.broken((*path, key)) for key in ("interval", "timeout"))
    if known and table.timeout > table.interval:
        report.error(
            (*path, "timeout" if "timeout" in table.model_fields_set else "interval"),
            f"timeout {duration_text(table.timeout)} is longer than interval {duration_text(table.interval)}",
            "an interval of at least the timeout",
        )
    fast = table.fast_interval
    if fast is not None and fast > table.interval and not report.broken((*path, "interval")):
        report.error(
            (*path, "fast_interval"),
            f"fast_interval {duration_text(fast)} is longer than interval {duration_text(table.interval)}",
            "a shorter one, or none",
        )


def _port(path: Path, table: CheckTable, service: ServiceTable, report: Report) -> None:
    if report.broken((*path, "port")):
        return
    if table.type == "icmp" and table.port is not None:
        report.error((*path, "port"), 'port on a check of type "icmp", which has none', "leave it out")
    own = _OVER[service.protocol]
    if table.port is None and table.type not in own and not report.broken((*path[:2], "protocol")):
        report.error(
            (*path, "type"),
            f"a check of type {quoted(table.type)} without port on a {service.protocol} service",
            f"port = where the node answers it, or {one_of(own)}",
        )


def _sources(
    path: Path, table: CheckTable, listeners: Iterable[PlacedListener], report: Report
) -> tuple[Address, ...]:
    where = (*path, "source")
    found: list[Address] = []
    for index, text in enumerate(table.source):
        try:
            own = node_address(text)
        except AddressError as error:
            report.error((*where, index), f"source {error.what}", error.allowed)
            continue
        if own.port is not None:
            report.error((*where, index), f"source {own.address} has a port", "an address alone")
        if any(other.version == own.address.version for other in found):
            report.error(
                (*where, index),
                f"source {own.address} is a second one of IPv{own.family}",
                "one of each family",
            )
        found.append(own.address)
    if len(found) == len(table.source) > 0:
        of_family = {one.listener.family: one.listener for one in listeners}
        for family in sorted(of_family.keys() - {family_of(address) for address in found}):
            report.error(
                where,
                f"source has no IPv{family} address for listener {of_family[family].endpoint}",
                "an address of every family that the service listens on",
            )
    return tuple(found)


def _terms(path: Path, table: CheckTable, report: Report) -> Terms | None:
    match table.type:
        case "tls":
            return _tls(path, table, table.server_name, report)
        case "http":
            return http_terms(path, table, report)
        case "https":
            terms = http_terms(path, table, report)
            name = table.server_name or (None if terms.host is None else _host_name(terms.host))
            return replace(terms, tls=_tls(path, table, name, report))
        case "udp":
            return udp_terms(path, table, report)
        case "coap":
            return coap_terms(path, table, report)
        case "script":
            return ScriptTerms(tuple(_command((*path, "command"), table, report)))
        case _:
            return None


def _tls(path: Path, table: CheckTable, name: str | None, report: Report) -> TlsTerms:
    if table.ca is not None and not table.verify and not report.broken((*path, "verify")):
        report.error((*path, "ca"), "ca without verify", "verify = true, or no ca")
    if name is not None and len(name) > 253:
        report.error((*path, "server_name"), "server_name is too long", "at most 253 characters")
    return TlsTerms(name, table.verify, table.ca)


def _host_name(host: str) -> str | None:
    """The name of a Host header, for the ClientHello, which has no place for addresses (RFC 6066, section 3)."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name if re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", name) else None
    return None


def _command(path: Path, table: CheckTable, report: Report) -> Iterator[str]:
    if report.broken(path):
        return
    words = table.command or []
    if not words:
        report.error(path, "no command" if table.command is None else "command is empty", _COMMAND)
    elif not words[0].startswith("/"):
        report.error(path, f"command begins with {quoted(words[0])}", _COMMAND)
    if any("\0" in word for word in words):
        report.error(path, "command has a null character", _COMMAND)
    yield from words


_COMMAND = 'an array, the first of it a path from / on: ["/usr/local/bin/check-broker"]'
