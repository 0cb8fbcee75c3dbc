"""The line of every key, table and array element of a TOML text, which tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from functools import cached_property

Path = tuple[str | int, ...]

# Deeper paths fall back to their parent: one dotted key of a million parts would be a million paths.
DEEPEST = 8

_BLANK = re.compile(r"(?:[ \t\r\n,]++|#[^\n]*+)*+")
_EQUALS = re.compile(r"=[ \t]*+")
_KEY = re.compile(r"""[ \t]*+(?:([A-Za-z0-9_-]++)|("(?:[^"\\\n]|\\.)*+")|'([^'\n]*+)')[ \t]*+(\.?)""")
# Multi-line strings repeat without the "+" that the others have: before Python 3.11.5 a possessive repeat of a group
# with a look-ahead matches nothing (gh-100061), and Debian 12 has 3.11.2.
_SCALAR = re.compile(
    r'''"""(?:[^"\\]++|\\.|"{1,2}+(?!"))*"{3,5}'''
    r"""|\'\'\'(?:[^']++|'{1,2}+(?!'))*'{3,5}"""
    r"""|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'|[^,\]}#\n]*+""",
    re.DOTALL,
)


class Lines:
    """Finds the line of a path such as ``("service", 0, "node", 2, "id")`` in text that tomllib accepts.

    The text is read at the first question: a file without mistakes is never scanned.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def known(self) -> dict[Path, int]:
        return _Scanner(self._text).run()

    def of(self, path: Path) -> int:
        """The line, counted from 1, of the path or of its nearest parent."""
        path = path[:DEEPEST]
        while path not in self.known:
            path = path[:-1]
        return self.known[path]


class _Scanner:
    """One pass over the text; ``None`` in place of a path is one that lies too deep to be kept."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.counted = 0
        self.known: dict[Path, int] = {(): 1}
        self.last: dict[Path, int] = {}  # array of tables -> index of the table that keys now belong to

    def run(self) -> dict[Path, int]:
        table: Path | None = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            before = self.at
            if self._sees("["):
                table = self._header()
            else:
                self._value(self._keys(table))
            self._skip(_BLANK)
            if self.at == before:  # not TOML after all: keep what is known
                break
        return self.known

    def _header(self) -> Path | None:
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        path: Path | None = ()
        for key, more in self._parts():
            path = self._mark(self._join(path, key), again=not more and not many)
            if path is not None and (more or many):
                if not more:
                    self.last[path] = self.last.get(path, -1) + 1
                if path in self.last:
                    path = self._mark(self._join(path, self.last[path]))
        self.at += 2 if many else 1
        return path

    def _keys(self, path: Path | None) -> Path | None:
        for key, more in self._parts():
            path = self._mark(self._join(path, key), again=not more)
        self._skip(_EQUALS)
        return path

    def _parts(self) -> list[tuple[str, bool]]:
        """Read a dotted key: its parts, each with whether another follows."""
        parts = []
        more = True
        while more and (match := _KEY.match(self.text, self.at)):
            self.at = match.end()
            bare, basic, literal, dot = match.groups()
            more = bool(dot)
            parts.append((bare or (_unescaped(basic) if basic else literal), more))
        return parts

    def _value(self, path: Path | None) -> None:
        """Read a value with all that it contains; a loop, as values may nest deeper than Python calls."""
        open_: list[tuple[Path | None, int]] = []  # arrays with their next index, inline tables with -1
        before = -1
        while True:
            if self._sees("["):
                self.at += 1
                open_.append((path, 0))
            elif self._sees("{"):
                self.at += 1
                open_.append((path, -1))
            else:
                self._skip(_SCALAR)
            self._skip(_BLANK)
            while open_ and (self._sees("]") or self._sees("}")):
                self.at += 1
                open_.pop()
                self._skip(_BLANK)
            if not open_ or self.at == before:  # done; or not TOML after all
                return
            before = self.at
            path, index = open_[-1]
            if index < 0:
                path = self._keys(path)
            else:
                open_[-1] = (path, index + 1)
                path = self._mark(self._join(path, index))

    def _sees(self, character: str) -> bool:
        return self.text.startswith(character, self.at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()

    def _join(self, path: Path | None, part: str | int) -> Path | None:
        return None if path is None or len(path) >= DEEPEST else (*path, part)

    def _mark(self, path: Path | None, *, again: bool = False) -> Path | None:
        """Note the present line for a path; a known one keeps its line unless this is its own header."""
        if path is not None and (again or path not in self.known):
            self.line += self.text.count("\n", self.counted, self.at)
            self.counted = self.at
            self.known[path] = self.line
        return path


def _unescaped(basic: str) -> str:
    """The text of a quoted key; tomllib knows the escapes of its version of TOML."""
    try:
        return str(tomllib.loads(f"k={basic}")["k"]) if "\\" in basic else basic[1:-1]
    except tomllib.TOMLDecodeError:  # then the text around it is no TOML either
        return basic
