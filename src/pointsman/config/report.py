"""Collects what is wrong with one document while it is read."""

from __future__ import annotations

import re
from typing import Any

from pointsman.config.errors import Problem
from pointsman.config.lines import Lines, Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Report:
    """Problems and warnings of one document, by the paths of what they are about.

    ``raw`` is the document as tomllib gives it; it is asked for names only. A value that is known to be wrong
    is *broken*: later checks leave it alone, so that one mistake is one message.
    """

    def __init__(self, raw: dict[str, Any], lines: Lines) -> None:
        self.lines = lines
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._broken: set[Path] = set()
        self._names = _names(raw)

    def error(self, path: Path, what: str, allowed: str = "") -> None:
        self.problems.append(Problem(self.lines.of(path), self.where(path), what, allowed))

    def warn(self, path: Path, what: str, allowed: str = "") -> None:
        self.warnings.append(Problem(self.lines.of(path), self.where(path), what, allowed))

    def break_(self, path: Path) -> None:
        """Note that what stands at the path is wrong and has been reported."""
        self._broken.add(path)

    def broken(self, path: Path) -> bool:
        """Whether the value at the path, or something around it, has been reported already."""
        return bool(self._broken) and any(path[:length] in self._broken for length in range(1, len(path) + 1))

    def line(self, path: Path) -> int:
        return self.lines.of(path)

    def where(self, path: Path) -> str:
        """The table that a path belongs to: services and nodes by name, or by number if that is none."""
        if path[:1] in (("gateway",), ("api",)) and len(path) > 1:
            return str(path[0])
        if path[:1] == ("guard",) and len(path) > 1:
            return f"guard {self._name(path[:2])}"
        if path[:1] == ("forwarding",) and len(path) > 1:
            return "forwarding" + (
                f", allow #{path[2] + 1}" if len(path) > 2 and isinstance(path[2], int) else ""
            )
        if path[:1] == ("multihome",) and len(path) > 1:
            uplink = (
                f", uplink #{path[3] + 1}"
                if len(path) > 3 and isinstance(path[3], int) and path[2] == "uplink"
                else ""
            )
            return f"multihome {self._name(path[:2])}{uplink}"
        if path[:1] != ("service",) or len(path) < 2:
            return ""
        service = f"service {self._name(path[:2])}"
        if path[2:3] == ("node",) and len(path) > 3:
            return f"{service}, node {self._name(path[:4])}"
        if path[2:3] == ("check",) and len(path) > 3 and isinstance(path[3], int):
            return f"{service}, check #{path[3] + 1}"
        return service

    def _name(self, path: Path) -> str:
        number = path[-1]
        return self._names.get(path) or (f"#{number + 1}" if isinstance(number, int) else "")


def _names(raw: dict[str, Any]) -> dict[Path, str]:
    """The names of services, nodes and so on, of whatever they are in a document that may be wrong in any way."""
    names: dict[Path, str] = {}
    for kind in ("service", "guard", "multihome"):
        for table_path, table in _tables((kind,), raw):
            for path, named in [(table_path, table), *_tables((*table_path, "node"), table)]:
                name = named.get("name")
                if isinstance(name, str) and _NAME.fullmatch(name):
                    names[path] = name
    return names


def _tables(path: Path, parent: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    found = parent.get(str(path[-1]))
    if not isinstance(found, list):
        return []
    return [((*path, index), table) for index, table in enumerate(found) if isinstance(table, dict)]
