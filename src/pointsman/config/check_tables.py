"""The table of a check."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from pointsman.config.values import INTERFACE, Addresses, Allowed, Port, table

SHORTEST = 0.05
LONGEST = 3600.0
LONGEST_DATAGRAM = 1200
LONGEST_EXPRESSION = 1000
LONGEST_PATTERN = 1024
"""Bytes of an expected datagram with its gaps: to look for it in an answer may take the product of both lengths."""
HOST = r"^[A-Za-z0-9._~:\[\]-]{1,255}$"
SERVER_NAME = r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,63}$"
REQUEST_PATH = "^/[!-~]{0,2000}$"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """Read a duration, which may be shorter than a second, into seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h)", value)
        if not match:
            raise PydanticCustomError("malformed", "is not a duration")
        return int(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("no_duration", "is no duration")
    return float(value) if abs(value) < 1 << 32 else LONGEST + 1


def _code(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise PydanticCustomError("no_code", "is no code")
    return value


def duration_text(seconds: float) -> str:
    """Seconds as the file has them: ``500ms``, ``2s``."""
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


Span = Annotated[
    float,
    Field(ge=SHORTEST, le=LONGEST),
    BeforeValidator(_seconds),
    Allowed('"500ms", "2s", "1m" or whole seconds; 50ms..1h'),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[1-9][0-9]*(ms|s|m|h)$"},
                {"type": "integer", "minimum": 1, "maximum": int(LONGEST)},
            ],
            "examples": ["500ms", "2s", "1m", 5],
        }
    ),
]
Codes = list[
    Annotated[
        Any,
        BeforeValidator(_code),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, {"type": "string"}]}),
    ]
]
"""Integers and strings; which of them are codes is for ``checks`` to say, as it depends on the kind."""


class CheckTable(BaseModel):
    """How it is found out whether a node of the service works."""

    model_config = table("Check")

    type: Annotated[
        Literal["tcp", "tls", "http", "https", "udp", "icmp", "dtls", "coap", "script"],
        Field(description="What is tried."),
    ]
    port: Annotated[
        Port | None,
        Field(description="The port that is checked; without it, the node's own for the service."),
        Allowed("a port, 1..65535"),
    ] = None
    interval: Annotated[
        Span, Field(description="From one try to the next.", json_schema_extra={"default": "2s"})
    ] = 2.0
    timeout: Annotated[
        Span, Field(description="How long an answer may take.", json_schema_extra={"default": "1s"})
    ] = 1.0
    rise: Annotated[
        int,
        Field(description="So many successes in a row make a node healthy.", ge=1, le=100),
        Allowed("1..100"),
    ] = 2
    fall: Annotated[
        int,
        Field(description="So many failures in a row make a node unhealthy.", ge=1, le=100),
        Allowed("1..100"),
    ] = 3
    jitter: Annotated[
        float,
        Field(
            description="By how much of itself the interval is longer or shorter, by chance.", ge=0, le=0.5
        ),
        Allowed("0..0.5"),
    ] = 0.1
    fast_interval: Annotated[
        Span | None,
        Field(description="The interval while a verdict is open or about to change."),
        Allowed('"500ms", "2s", "1m" or whole seconds; 50ms..1h'),
    ] = None
    source: Annotated[
        Addresses,
        Field(description="The gateway's address, or one of each family, that is asked from."),
        Allowed('an address of the gateway, or one of each family: ["10.0.0.1", "fd00::1"]'),
    ] = []
    interface: Annotated[
        str | None,
        Field(description="The interface that is asked by.", pattern=INTERFACE),
        Allowed("the name of a network interface: 1..15 characters, none of them blank, / or :"),
    ] = None
    method: Annotated[
        Literal["GET", "HEAD", "OPTIONS", "POST"], Field(description="http, https: the request's method.")
    ] = "GET"
    path: Annotated[
        str | None,
        Field(
            description="http, https, coap: what is asked for; without it / or a CoAP ping.",
            pattern=REQUEST_PATH,
        ),
        Allowed('a path without blanks: "/health"'),
    ] = None
    host: Annotated[
        str | None,
        Field(description="http, https: the Host header; without it, the node's address.", pattern=HOST),
        Allowed('a host, with or without a port: "www.example.com"'),
    ] = None
    codes: Annotated[
        Codes | None,
        Field(description="http, https, coap: the codes that will do."),
        Allowed('an array of codes: [200, "300-399"]; coap: ["2.05"]'),
    ] = None
    body: Annotated[
        str | None,
        Field(
            description="http, https: a regular expression that is found in the body.",
            json_schema_extra={"maxLength": LONGEST_EXPRESSION},
        ),
        Allowed(f"a regular expression as Python has them, at most {LONGEST_EXPRESSION} characters"),
    ] = None
    body_sha256: Annotated[
        str | None,
        Field(description="http, https: the body's SHA-256.", pattern="^[0-9A-Fa-f]{64}$"),
        Allowed("64 hexadecimal digits"),
    ] = None
    server_name: Annotated[
        str | None,
        Field(
            description="tls, https: the name in the ClientHello; https without it: host.",
            pattern=SERVER_NAME,
        ),
        Allowed('a host name: "www.example.com"'),
    ] = None
    verify: Annotated[
        bool,
        Field(description="tls, https: whether the certificate must be trusted and of that name."),
        Allowed("true or false"),
    ] = False
    ca: Annotated[
        str | None,
        Field(
            description="tls, https: the file of authorities to verify against; without it, the system's.",
            pattern=r"^/[^\x00]{1,4000}$",
        ),
        Allowed("the path of a PEM file, from / on"),
    ] = None
    send: Annotated[
        str | None,
        Field(description="udp: the text that is sent."),
        Allowed(f"a string of at most {LONGEST_DATAGRAM} bytes"),
    ] = None
    send_hex: Annotated[
        str | None,
        Field(description="udp: the bytes that are sent.", pattern="^[0-9A-Fa-f ]*$"),
        Allowed(f'hexadecimal digits, at most {LONGEST_DATAGRAM} bytes: "00 ff"'),
    ] = None
    expect: Annotated[
        str | None,
        Field(description="udp: what the answer is; * is anything, ? any one byte."),
        Allowed(r'a string in which * is anything, ? any one byte, \ takes their meaning away: "pong*"'),
    ] = None
    expect_hex: Annotated[
        str | None,
        Field(
            description="udp: the same in hexadecimal; * is anything, ?? any one byte.",
            pattern=r"^[0-9A-Fa-f ?*]*$",
        ),
        Allowed('hexadecimal digits in pairs, ?? for any byte, * for anything: "80 ?? *"'),
    ] = None
    command: Annotated[
        list[str] | None,
        Field(description="script: the program and its arguments; no shell reads them."),
        Allowed('an array, the first of it a path from / on: ["/usr/local/bin/check-broker", "--quick"]'),
    ] = None
