"""How messages show what the operator wrote."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

LONGEST_SHOWN = 60


def quoted(text: str) -> str:
    """Text in double quotes, on one line, without anything that a terminal would act on."""
    cut = text[:LONGEST_SHOWN]
    safe = "".join(_safe(character) for character in cut)
    return f'"{safe}..."' if len(text) > len(cut) else f'"{safe}"'


def shown(value: object) -> str:
    """A TOML value as a message shows it: short, whatever its size."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python prints no integer of more than 4300 digits, and a hexadecimal one gets past TOML's reader.
        return str(value) if value.bit_length() <= 128 else f"of {value.bit_length()} bits"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else kind(value)


def kind(value: object) -> str:
    """The TOML type of a value, with its article."""
    for python, word in _KINDS:
        if isinstance(value, python):
            return word
    return "a value"


def key(name: str) -> str:
    """A key as a message shows it: bare where TOML allows that."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) <= LONGEST_SHOWN
    return name if bare else quoted(name)


def one_of(words: Iterable[str]) -> str:
    """Quoted words as a choice: ``"a", "b" or "c"``."""
    *most, last = [f'"{word}"' for word in words]
    return f"{', '.join(most)} or {last}" if most else last


# bool before int and datetime before date: the former are subclasses of the latter.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (datetime.date, "a date"),
    (datetime.time, "a time"),
)


def _safe(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
