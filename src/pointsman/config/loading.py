"""From the file to the gateway, or to everything that is wrong with the file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from pointsman.config.document import Document
from pointsman.config.errors import ConfigError, Problem
from pointsman.config.explain import explain
from pointsman.config.lines import Lines
from pointsman.config.report import Report
from pointsman.config.resolve import resolve
from pointsman.config.syntax import syntax_problem
from pointsman.model import Gateway

# Some 500,000 nodes. What is larger is no configuration but a device or an image, and would fill the memory.
LARGEST_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file without mistakes: the gateway, what is doubtful about it, and where it says what."""

    gateway: Gateway
    warnings: tuple[Problem, ...]
    text: str
    filename: str
    lines: Lines

    def line_of(self, service: str, node: str | None = None) -> int:
        """The line of a service or of one of its nodes, by name; KeyError where there is none."""
        for index, one in enumerate(self.gateway.services):
            if one.name == service:
                if node is None:
                    return self.lines.of(("service", index))
                for place, member in enumerate(one.nodes):
                    if member.name == node:
                        return self.lines.of(("service", index, "node", place))
        raise KeyError((service, node))


def load(path: FilePath) -> Loaded:
    """Read and parse a file; raises ConfigError, also where the file cannot be read."""
    filename = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(filename, [Problem(0, "", _unreadable(error), "a readable TOML file")]) from None
    except ValueError:  # a null byte in the name
        raise ConfigError(filename, [Problem(0, "", "is no file name", "a readable TOML file")]) from None
    if len(data) > LARGEST_FILE:
        too_large = Problem(0, "", "the file is too large", f"at most {LARGEST_FILE >> 20} MiB")
        raise ConfigError(filename, [too_large])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(filename, [_not_utf8(line)]) from None
    return parse(text, filename)


def parse(text: str, filename: str) -> Loaded:
    """Parse and resolve the text of a file; raises ConfigError with every mistake in it, and nothing else."""
    text = text.removeprefix("\ufeff")  # some editors put a byte order mark in front
    raw = _toml(text, filename)
    lines = Lines(text)
    report = Report(raw, lines)
    try:
        document = _document(raw, report)
        gateway = resolve(document, report)
    except ValidationError:
        # The stand-ins did not do: what was found before them is what there is to say.
        gateway = None
    if report.problems or gateway is None:
        raise ConfigError(filename, report.problems)
    warnings = tuple(sorted(report.warnings, key=lambda problem: problem.line))
    return Loaded(gateway, warnings, text, filename, lines)


def _toml(text: str, filename: str) -> dict[str, Any]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(filename, [_not_utf8(text.count("\n", 0, error.start) + 1)]) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(filename, [syntax_problem(error, text)]) from None


def _document(raw: dict[str, Any], report: Report) -> Document:
    try:
        return Document.model_validate(raw)
    except ValidationError as error:
        explain(error, raw, report)
    return Document.model_validate(raw)


def _not_utf8(line: int) -> Problem:
    return Problem(line, "", "not UTF-8 text", "save the file as UTF-8")


def _unreadable(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"cannot be read: {reason[:1].lower()}{reason[1:]}"
