"""Where a running daemon is asked, and by whom."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.model.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ApiOverTcp:
    """The files of TLS, and of the tokens that callers show."""

    listen: Endpoint
    certificate: str
    key: str
    tokens: str


@dataclass(frozen=True, slots=True)
class Api:
    """``socket`` "" is this network namespace's default; ``socket_group`` "" is "pointsman" where there is one."""

    socket: str = ""
    socket_mode: int = 0o660
    socket_group: str = ""
    tcp: ApiOverTcp | None = None
