"""What checks expect of HTTP, UDP and CoAP: codes, patterns, paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from pointsman.config.check_tables import (
    LONGEST_DATAGRAM,
    LONGEST_EXPRESSION,
    LONGEST_PATTERN,
    CheckTable,
)
from pointsman.config.lines import Path
from pointsman.config.report import Report
from pointsman.config.wording import quoted, shown
from pointsman.model.health import CoapTerms, CodeRange, HttpTerms, UdpTerms, Wildcards

LONGEST_SEGMENT = 255
"""Bytes of a Uri-Path or Uri-Query option (RFC 7252, section 5.10)."""


def http_terms(path: Path, table: CheckTable, report: Report) -> HttpTerms:
    """What an http check sends and expects."""
    for key in ("body", "body_sha256"):
        if getattr(table, key) is not None and table.method == "HEAD" and not report.broken((*path, key)):
            report.error((*path, key), f'{key} with method = "HEAD", which gets none', 'method = "GET"')
    if table.body is not None and len(table.body) > LONGEST_EXPRESSION:
        report.error(
            (*path, "body"),
            f"body has {len(table.body)} characters",
            f"a regular expression of at most {LONGEST_EXPRESSION}",
        )
    elif table.body is not None:
        import regex

        try:
            regex.compile(table.body.encode())
        except (regex.error, OverflowError, RecursionError) as error:
            report.error((*path, "body"), f"body is no regular expression: {error}", "one as Python has them")
    codes = tuple(_http_codes((*path, "codes"), table.codes or (), report))
    if table.codes == []:
        report.error((*path, "codes"), "codes is empty", 'an array of codes: [200, "300-399"]')
    defaults = HttpTerms()
    return HttpTerms(
        method=table.method,
        path=table.path or defaults.path,
        host=table.host,
        codes=codes or defaults.codes,
        body=table.body,
        digest=None if table.body_sha256 is None else bytes.fromhex(table.body_sha256),
    )


def _http_codes(path: Path, values: Iterable[int | str], report: Report) -> Iterator[CodeRange]:
    for index, value in enumerate(values):
        match = re.fullmatch(r"([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", str(value))
        if match and match[1] <= (match[2] or match[1]):
            yield CodeRange(int(match[1]), int(match[2] or match[1]))
        else:
            report.error(
                (*path, index),
                f"codes {shown(value)} is no code or range of codes",
                '200..599, a range with the lower first: [200, "300-399"]',
            )


def coap_terms(path: Path, table: CheckTable, report: Report) -> CoapTerms | None:
    """What a coap check asks for; None is a ping."""
    if table.path is None:
        if table.codes is not None and not any(report.broken((*path, key)) for key in ("path", "codes")):
            report.error(
                (*path, "codes"), "codes without path: a CoAP ping is answered by none", 'path = "/health"'
            )
        return None
    if table.codes == []:
        report.error((*path, "codes"), "codes is empty", 'an array of codes: ["2.05"]')
    resource, _, query = table.path.partition("?")
    segments = tuple(unquote(part) for part in resource[1:].split("/")) if resource != "/" else ()
    queries = tuple(unquote(part) for part in query.split("&")) if query else ()
    if any(len(part.encode()) > LONGEST_SEGMENT for part in (*segments, *queries)):
        report.error(
            (*path, "path"),
            "path has a part that is too long for CoAP",
            f"at most {LONGEST_SEGMENT} bytes from / to /",
        )
    codes = tuple(_coap_codes((*path, "codes"), table.codes or (), report))
    return CoapTerms(segments, queries, codes) if codes else CoapTerms(segments, queries)


def _coap_codes(path: Path, values: Iterable[int | str], report: Report) -> Iterator[int]:
    for index, value in enumerate(values):
        match = re.fullmatch(r"([2-5])\.([0-2][0-9]|3[01])", value) if isinstance(value, str) else None
        if match:
            yield int(match[1]) << 5 | int(match[2])
        else:
            report.error((*path, index), f"codes {shown(value)} is no code of CoAP", '"2.05", "4.04"')


def udp_terms(path: Path, table: CheckTable, report: Report) -> UdpTerms:
    """What a udp check sends and expects."""
    for one, other in (("send", "send_hex"), ("expect", "expect_hex")):
        if getattr(table, one) is not None and getattr(table, other) is not None:
            report.error((*path, other), f"{one} and {other}", "one of them")
    return UdpTerms(_sent(path, table, report), _expected(path, table, report))


def _sent(path: Path, table: CheckTable, report: Report) -> bytes:
    key, sent = "send", b""
    if table.send is not None:
        sent = table.send.encode()
    elif table.send_hex is not None:
        key = "send_hex"
        try:
            sent = bytes.fromhex(table.send_hex)
        except ValueError:
            report.error((*path, key), f"send_hex {quoted(table.send_hex)} has half a byte", '"00 ff"')
    elif not any(report.broken((*path, one)) for one in ("send", "send_hex")):
        report.error(path, 'type = "udp" without send', 'send = "ping", or send_hex = "00 ff"')
    if len(sent) > LONGEST_DATAGRAM:
        report.error(
            (*path, key), f"{key} has {len(sent)} bytes", f"at most {LONGEST_DATAGRAM}, which pass everywhere"
        )
    return sent


def _expected(path: Path, table: CheckTable, report: Report) -> Wildcards | None:
    found = _pattern(path, table, report)
    length = 0 if found is None else sum(map(len, found.pieces)) + len(found.pieces) - 1
    if length > LONGEST_PATTERN:
        key = "expect" if table.expect is not None else "expect_hex"
        report.error((*path, key), f"{key} has {length} bytes", f"at most {LONGEST_PATTERN}, a * being one")
    return found


def _pattern(path: Path, table: CheckTable, report: Report) -> Wildcards | None:
    if table.expect is not None:
        return _of_text(table.expect)
    if table.expect_hex is None:
        return None
    text = table.expect_hex.replace(" ", "")
    if not re.fullmatch(r"(\*|\?\?|[0-9A-Fa-f]{2})*", text):
        report.error(
            (*path, "expect_hex"),
            f"expect_hex {quoted(table.expect_hex)} has half a byte",
            '?? for any byte, * for anything: "80 ?? *"',
        )
        return None
    return Wildcards(
        tuple(
            tuple(None if byte == "??" else int(byte, 16) for byte in re.findall("..", piece))
            for piece in text.split("*")
        )
    )


def _of_text(text: str) -> Wildcards:
    pieces: list[tuple[int | None, ...]] = [()]
    for match in re.finditer(r"\\([*?\\])|(.)", text, re.DOTALL):
        if match[1]:
            pieces[-1] += tuple(match[1].encode())
        elif match[2] == "*":
            pieces.append(())
        else:
            pieces[-1] += (None,) if match[2] == "?" else tuple(match[2].encode())
    return Wildcards(tuple(pieces))
