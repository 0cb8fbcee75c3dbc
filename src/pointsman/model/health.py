"""What the operator asked to be checked about a service's nodes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pointsman.model.endpoint import Address, Family, family_of


class CheckKind(StrEnum):
    TCP = "tcp"
    TLS = "tls"
    HTTP = "http"
    HTTPS = "https"
    UDP = "udp"
    ICMP = "icmp"
    DTLS = "dtls"
    COAP = "coap"
    SCRIPT = "script"

    @property
    def has_port(self) -> bool:
        """Whether what is checked is at a port of the node; a script is told one, and does as it likes."""
        return self is not CheckKind.ICMP


class Require(StrEnum):
    """Which of a service's checks a node must pass."""

    ALL = "all"
    ANY = "any"


class Passive(StrEnum):
    """What becomes of signs in what passes anyway: shown, counted as a failing check, or not looked for."""

    SHOW = "show"
    COUNT = "count"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class TlsTerms:
    """``server_name`` goes into the ClientHello. ``verify``: against ``authorities``, a file, or the system's."""

    server_name: str | None = None
    verify: bool = False
    authorities: str | None = None


@dataclass(frozen=True, slots=True)
class CodeRange:
    """Status codes of HTTP, both ends included."""

    first: int
    last: int

    def __contains__(self, code: int) -> bool:
        return self.first <= code <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class HttpTerms:
    """``host`` None is the node's address. ``body`` is a regular expression, ``digest`` the SHA-256 of all of it.

    ``tls`` is https's.
    """

    method: str = "GET"
    path: str = "/"
    host: str | None = None
    codes: tuple[CodeRange, ...] = (CodeRange(200, 299),)
    body: str | None = None
    digest: bytes | None = None
    tls: TlsTerms | None = None


@dataclass(frozen=True, slots=True)
class Wildcards:
    """Bytes with gaps: pieces in their order, between which anything may stand; None in a piece is any one byte.

    The first piece begins what matches and the last one ends it; either may be empty.
    """

    pieces: tuple[tuple[int | None, ...], ...]

    def matches(self, data: bytes) -> bool:
        """Whether all of the data is of this form; takes at most the product of both lengths."""
        first, *between = self.pieces
        if not between:
            return len(data) == len(first) and _stands(first, data, 0)
        *between, last = between
        end = len(data) - len(last)
        if end < len(first) or not _stands(first, data, 0) or not _stands(last, data, end):
            return False
        position = len(first)
        for piece in between:
            places = range(position, end - len(piece) + 1)
            found = next((place for place in places if _stands(piece, data, place)), None)
            if found is None:
                return False
            position = found + len(piece)
        return True


def _stands(piece: tuple[int | None, ...], data: bytes, place: int) -> bool:
    return all(wanted is None or wanted == data[place + index] for index, wanted in enumerate(piece))


@dataclass(frozen=True, slots=True)
class UdpTerms:
    """``expect`` None: any answer will do."""

    send: bytes
    expect: Wildcards | None = None


@dataclass(frozen=True, slots=True)
class CoapTerms:
    """A GET of ``path``; ``codes`` are those that will do, as one byte (RFC 7252, section 3)."""

    path: tuple[str, ...]
    query: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0x45,)


@dataclass(frozen=True, slots=True)
class ScriptTerms:
    command: tuple[str, ...]


Terms = TlsTerms | HttpTerms | UdpTerms | CoapTerms | ScriptTerms
"""What a kind expects beyond an answer; coap without terms is a ping."""


@dataclass(frozen=True, slots=True)
class Check:
    """Times are in seconds, ``jitter`` is a fraction of the interval; ``port`` None is the node's own.

    ``rise`` successes in a row make a node healthy, ``fall`` failures unhealthy; ``fast_interval`` is the interval
    while either is under way.
    """

    kind: CheckKind
    port: int | None = None
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    fast_interval: float | None = None
    sources: tuple[Address, ...] = ()
    interface: str | None = None
    terms: Terms | None = None

    def source(self, family: Family) -> Address | None:
        return next((one for one in self.sources if family_of(one) is family), None)
