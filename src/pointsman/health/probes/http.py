"""http: one request, the code of its answer, and its body where something is expected of that."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

import h11
import regex

from pointsman.health.probes.step import WAIT, Step, failed, passed, plain
from pointsman.model.health import HttpTerms

LARGEST_BODY = 1 << 20
LARGEST_HEADERS = 32768
LARGEST_ANSWER = LARGEST_BODY + (1 << 16)
"""Bytes of a connection with all that is around a body: chunks of a byte each make six of one."""
MOST_INFORMATIONAL = 8
LONGEST_SEARCH = 0.1
"""Seconds that an expression may take for a body; other checks wait meanwhile."""


class HttpProbe:
    """``host`` is the Host header where the terms have none."""

    def __init__(self, terms: HttpTerms, host: str) -> None:
        self._terms = terms
        self._host = terms.host or host
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEADERS)
        self._taken = 0
        self._informational = 0
        self._body = bytearray()
        self._answer = ""

    def start(self) -> Step:
        headers = [
            ("Host", self._host),
            ("User-Agent", "pointsman"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        if self._terms.method == "POST":
            headers.append(("Content-Length", "0"))
        request = h11.Request(method=self._terms.method, target=self._terms.path, headers=headers)
        return Step((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    def received(self, data: bytes) -> Step:
        self._taken += len(data)
        try:
            self._http.receive_data(data)
            step = self._events()
        except h11.RemoteProtocolError as error:
            return failed(f"not HTTP: {plain(str(error))}" if data else "closed before its answer was whole")
        if step.outcome is None and self._taken > LARGEST_ANSWER:
            return failed(f"{self._answer or 'no answer'} in more than {LARGEST_ANSWER} bytes")
        return step

    def _events(self) -> Step:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return WAIT
            if isinstance(event, h11.Response):
                step = self._head(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
                step = failed(f"{self._answer}, body above 1 MiB") if len(self._body) > LARGEST_BODY else WAIT
            elif isinstance(event, h11.EndOfMessage):
                step = self._whole()
            elif isinstance(event, h11.InformationalResponse):
                self._informational += 1
                most = MOST_INFORMATIONAL
                step = (
                    WAIT if self._informational <= most else failed(f"more than {most} informational answers")
                )
            else:  # closed, or another protocol from here on
                step = failed(
                    "closed without an answer" if not self._answer else f"{self._answer}, then closed"
                )
            if step.outcome is not None:
                return step

    def _head(self, response: h11.Response) -> Step:
        self._answer = f"{response.status_code} {plain(response.reason)}".rstrip()
        if not any(response.status_code in one for one in self._terms.codes):
            return failed(f"{self._answer}, not {', '.join(map(str, self._terms.codes))}")
        if self._terms.body is None and self._terms.digest is None:
            return passed(self._answer)
        return WAIT

    def _whole(self) -> Step:
        if self._terms.body is not None:
            try:
                found = _compiled(self._terms.body).search(self._body, timeout=LONGEST_SEARCH)
            except TimeoutError:
                return failed(
                    f"{self._answer}, body on which the expression runs for more than {LONGEST_SEARCH} s"
                )
            if found is None:
                return failed(f"{self._answer}, body of {len(self._body)} bytes without what is expected")
        if self._terms.digest is not None and sha256(self._body).digest() != self._terms.digest:
            return failed(f"{self._answer}, body of {len(self._body)} bytes with another SHA-256")
        return passed(f"{self._answer}, body as expected")


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> regex.Pattern[bytes]:
    return regex.compile(expression.encode())
