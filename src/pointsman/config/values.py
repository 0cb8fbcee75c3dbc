"""The kinds of value that keys of the document hold, each with its bounds and its JSON Schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

SERVICE_NAME = "^[a-z][a-z0-9-]{0,30}$"
NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
# What the kernel takes as an interface name (no "/", ":" or white space), without what has a meaning to nft.
INTERFACE = r"^[!#-)+-.0-9;-\[\]-~]{1,15}$"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DURATION = 86400
WIDEST_SEED = 0xFFFFFFFF
SEED_FORMS = "32 bits: 0x1234abcd, or its hexadecimal digits as a string"
CALIFORNIUM = {"offset": 0, "bits": 8}
LONGEST_CID_BITS = 8 * 255


@dataclass(frozen=True, slots=True)
class Allowed:
    """What messages say is allowed for a key."""

    text: str


def table(title: str) -> ConfigDict:
    """How every table of the file is read: no unknown keys, no other types than those said."""
    return ConfigDict(extra="forbid", strict=True, frozen=True, title=title)


def _seconds(value: object) -> object:
    """Read a duration into seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
        if not match:
            raise PydanticCustomError("malformed", "is not a duration")
        value = int(match[1]) * _UNITS[match[2]]
    return value


def _seed(value: object) -> object:
    """Read a hash seed that is written as a string of hexadecimal digits."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:0[xX])?([0-9A-Fa-f]{1,8})", value)
        if not match:
            raise PydanticCustomError("malformed", "is not a seed")
        value = int(match[1], 16)
    return value


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _port_or_range(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise PydanticCustomError("no_port", "is no port")
    return value


Duration = Annotated[
    int,
    Field(ge=1, le=LONGEST_DURATION),
    BeforeValidator(_seconds),
    Allowed('"90s", "5m", "2h", "1d" or whole seconds; 1s..1d'),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[1-9][0-9]*[smhd]$"},
                {"type": "integer", "minimum": 1, "maximum": LONGEST_DURATION},
            ],
            "examples": ["90s", "5m", "2h", "1d", 120],
        }
    ),
]
Seed = Annotated[
    int,
    Field(ge=0, le=WIDEST_SEED),
    BeforeValidator(_seed),
    Allowed(SEED_FORMS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": WIDEST_SEED},
                {"type": "string", "pattern": "^(0[xX])?[0-9A-Fa-f]{1,8}$"},
            ],
            "examples": [0x1234ABCD, "1234abcd"],
        }
    ),
]
NodeAddresses = Annotated[
    list[str],
    BeforeValidator(_several),
    Allowed('"10.0.0.11", "10.0.0.11:15684", or an array of one address of each family'),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ],
            "examples": ["10.0.0.11", ["10.0.0.11", "fd00::11"], ["10.0.0.11:15684", "[fd00::11]:15684"]],
        }
    ),
]
DurationOrNone = Annotated[
    int,
    Field(ge=0, le=LONGEST_DURATION),
    BeforeValidator(_seconds),
    Allowed('"90s", "5m", "2h", "1d" or whole seconds; 0..1d'),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+[smhd]$"},
                {"type": "integer", "minimum": 0, "maximum": LONGEST_DURATION},
            ],
            "examples": [0, "5m"],
        }
    ),
]
Addresses = Annotated[
    list[str],
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Prefixes = list[str]
Ports = list[
    Annotated[
        Any,
        BeforeValidator(_port_or_range),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}),
    ]
]
"""Integers and strings; which of them are ports is for ``prefixes.port_range`` to say."""
Interfaces = Annotated[
    list[Annotated[str, Field(pattern=INTERFACE)]],
    BeforeValidator(_several),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": INTERFACE},
                {"type": "array", "items": {"type": "string", "pattern": INTERFACE}, "minItems": 1},
            ]
        }
    ),
]
Policy = Literal["drop", "balance"]
Port = Annotated[int, Field(ge=1, le=65535), Allowed("a port, 1..65535")]
