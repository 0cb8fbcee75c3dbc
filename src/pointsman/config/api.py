"""Turn the table of the daemon's API into the model's."""

from __future__ import annotations

from pointsman.config.addresses import AddressError, own_endpoint
from pointsman.config.api_tables import LONGEST_SOCKET, ApiTable
from pointsman.config.document import Document
from pointsman.config.lines import Path
from pointsman.config.report import Report
from pointsman.model import Api, ApiOverTcp, Endpoint

_WHERE: Path = ("api",)
_OF_TCP = ("certificate", "key", "tokens")


def api(document: Document, report: Report) -> Api:
    """Where the daemon is asked; TCP without TLS or without tokens is a mistake, on loopback too."""
    table = document.api
    if table is None or report.broken(_WHERE):
        return Api()
    if table.socket is not None and len(table.socket.encode()) > LONGEST_SOCKET - 4:
        report.error((*_WHERE, "socket"), "socket is too long", f"at most {LONGEST_SOCKET - 4} bytes")
    return Api(
        socket=table.socket or "",
        socket_mode=int(table.socket_mode, 8),
        socket_group=table.socket_group or "",
        tcp=_tcp(table, report),
    )


def _tcp(table: ApiTable, report: Report) -> ApiOverTcp | None:
    if any(report.broken((*_WHERE, key)) for key in ("listen", *_OF_TCP)):
        return None
    given = {key: value for key in _OF_TCP if (value := getattr(table, key)) is not None}
    if table.listen is None:
        for key in given:
            report.error(
                (*_WHERE, key), f"{key} without listen", 'listen = "127.0.0.1:9443", or leave it out'
            )
        return None
    missing = [key for key in _OF_TCP if key not in given]
    if missing:
        report.error(
            (*_WHERE, "listen"),
            f"listen without {', '.join(missing)}",
            "TLS and tokens over TCP, on loopback too; or the unix socket alone",
        )
        return None
    endpoint = _endpoint(table.listen, report)
    return None if endpoint is None else ApiOverTcp(endpoint, **given)


def _endpoint(text: str, report: Report) -> Endpoint | None:
    try:
        return own_endpoint(text)
    except AddressError as error:
        report.error((*_WHERE, "listen"), f"listen {error.what}", error.allowed)
        return None
