"""The table of the daemon's API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse
from pointsman.model import Api

TLS = 'certificate = "/etc/pointsman/tls.crt"\nkey = "/etc/pointsman/tls.key"\ntokens = "/etc/pointsman/tokens"\n'


def test_without_the_table_there_is_the_unix_socket_alone(good: str) -> None:
    assert parse(good, "g").gateway.api == Api()
    assert Api().tcp is None


def test_socket_mode_and_group_are_read(good: str) -> None:
    text = '[api]\nsocket = "/run/x/api.sock"\nsocket_mode = "0600"\nsocket_group = "adm"\n'
    found = parse(good + text, "g").gateway.api
    assert (found.socket, found.socket_mode, found.socket_group) == ("/run/x/api.sock", 0o600, "adm")


@pytest.mark.parametrize("listen", ["127.0.0.1:9443", "[::1]:9443", "0.0.0.0:9443", "[2001:db8::1]:9443"])
def test_tcp_has_its_address_and_files(good: str, listen: str) -> None:
    found = parse(f'{good}[api]\nlisten = "{listen}"\n{TLS}', "g").gateway.api.tcp
    assert found is not None
    assert (str(found.listen), found.certificate, found.tokens) == (
        listen,
        "/etc/pointsman/tls.crt",
        "/etc/pointsman/tokens",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'listen = "127.0.0.1:9443"\n',
            "g:30: api: listen without certificate, key, tokens; TLS and tokens over TCP, on loopback too",
        ),
        ('listen = "[::1]:9443"\n' + TLS.replace("key", "#"), "api: listen without key; TLS and tokens"),
        ('tokens = "/t"\n', "g:30: api: tokens without listen"),
        ('listen = "127.0.0.1"\n' + TLS, 'api: listen "127.0.0.1" has no port'),
        ('listen = "localhost:9443"\n' + TLS, 'api: listen "localhost:9443" is a name, which is not looked'),
        ('listen = "127.0.0.1:0"\n' + TLS, "has a port that is out of range"),
        ('socket = "api.sock"\n', 'api: socket "api.sock" is malformed; an absolute path'),
        (f'socket = "/{"é" * 60}"\n', "api: socket is too long"),
        ('socket_mode = "rw-rw----"\n', 'api: socket_mode "rw-rw----" is malformed; three octal digits'),
        ("socket_mode = 432\n", "api: socket_mode 432 is an integer; three octal digits"),
        ('socket_group = "a b"\n', 'api: socket_group "a b" is malformed; the name of a group'),
        ('token = "/t"\n', "api: unknown key token; did you mean tokens?"),
    ],
)
def test_mistake_is_one_line_with_its_place(
    good: str, mistakes: Callable[[str], list[str]], text: str, line: str
) -> None:
    found = mistakes(f"{good}[api]\n{text}")
    assert len(found) == 1, found
    assert line in found[0]
