"""Say in the operator's words, and with its line, why a text is not TOML."""

from __future__ import annotations

import re

from pointsman.config.errors import Problem

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{4000,}")
_DEEPEST = re.compile(r"[\[\]{}]")

# What tomllib says at the start of its message; what it means; what is allowed. Other messages are passed on.
_MEANINGS = (
    ("Cannot overwrite a value", "a key is given twice", "each key once in its table"),
    ("Cannot declare", "a table is declared twice", "[table] once, or [[table]] if there are many"),
    ("Duplicate inline table key", "a key is given twice", "each key once in its table"),
    ("Invalid value", "no TOML value", 'text in quotes: "dtls"'),
    ("Illegal character '\\n'", "the line ends within quotes", "quotes at both ends of a text"),
    (
        "Expected newline or end of document",
        "more on the line than a value",
        'text in quotes: "192.0.2.10:5684"',
    ),
    ("Expected '=' after a key", "a key without a value", "key = value"),
    ("Unclosed array", "an array without its end", "] at the end of an array"),
    ("Unclosed inline table", "an inline table without its end", "} at its end, on the same line"),
)


def syntax_problem(error: ValueError | RecursionError, text: str) -> Problem:
    """The one problem of a text that tomllib refuses, or cannot read."""
    if isinstance(error, RecursionError):
        return Problem(
            _deepest_line(text),
            "",
            "arrays or tables are nested too deeply",
            "three levels are all that is needed",
        )
    message = str(error)
    place = _PLACE.search(message)
    if not place:  # Python's own limit for the digits of an integer, which tomllib passes on
        number = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, number.start()) + 1 if number else 1
        return Problem(line, "", "an integer is too long", "at most 64 bits")
    line = min(int(place[1]), last_line(text)) if place[1] else last_line(text)
    said = message[: place.start()]
    for start, meaning, allowed in _MEANINGS:
        if said.startswith(start):
            return Problem(line, "", f"not TOML: {meaning}", allowed)
    return Problem(line, "", f"not TOML: {said[:1].lower()}{said[1:]}", "see https://toml.io")


def last_line(text: str) -> int:
    """The number of the last line that has anything on it."""
    return text.count("\n", 0, max(len(text) - 1, 0)) + 1


def _deepest_line(text: str) -> int:
    depth = deepest = position = 0
    for match in _DEEPEST.finditer(text):
        depth += 1 if match[0] in "[{" else -1
        if depth > deepest:
            deepest, position = depth, match.start()
    return text.count("\n", 0, position) + 1
