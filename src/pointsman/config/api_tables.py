"""The table of the daemon's API."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from pointsman.config.values import Allowed, table

LONGEST_SOCKET = 107
"""unix(7): sun_path holds 108 bytes, one of them the end; the temporary name takes four more."""
FILE = r"^/[^\x00]{1,4095}$"
MODE = "^0?[0-7]{3}$"
GROUP = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$"

_File = Annotated[str, Field(pattern=FILE)]


class ApiTable(BaseModel):
    """Where a running daemon is asked, and by whom."""

    model_config = table("API")

    socket: Annotated[
        str | None,
        Field(
            description="The unix socket; without it, one for the network namespace.",
            pattern=rf"^/[^\x00]{{1,{LONGEST_SOCKET - 5}}}$",
            examples=["/run/pointsman-api/api.sock"],
        ),
        Allowed(f"an absolute path of at most {LONGEST_SOCKET - 4} bytes"),
    ] = None
    socket_mode: Annotated[
        str,
        Field(description="The socket's permissions, in octal.", pattern=MODE),
        Allowed('three octal digits: "0660"'),
    ] = "0660"
    socket_group: Annotated[
        str | None,
        Field(
            description='The group that may give orders; without it "pointsman", if there is one.',
            pattern=GROUP,
        ),
        Allowed("the name of a group"),
    ] = None
    listen: Annotated[
        str | None,
        Field(
            description="Also over TCP, with TLS and tokens: the address and port.",
            examples=["127.0.0.1:9443", "[::1]:9443"],
        ),
        Allowed('an address with its port: "127.0.0.1:9443", "[::1]:9443"'),
    ] = None
    certificate: Annotated[
        _File | None,
        Field(description="TLS: the certificate and what it is signed by, PEM."),
        Allowed("an absolute path"),
    ] = None
    key: Annotated[
        _File | None, Field(description="TLS: the certificate's key, PEM."), Allowed("an absolute path")
    ] = None
    tokens: Annotated[
        _File | None,
        Field(description="Who may ask over TCP: a line for each, NAME SCOPE SHA256."),
        Allowed("an absolute path"),
    ] = None
