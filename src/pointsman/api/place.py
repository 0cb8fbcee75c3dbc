"""Where the daemon's socket is, for the daemon and for those who ask it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pointsman.kernel import netns

ROOT = Path("/run/pointsman-api")
"""Beside the state's folder, which is root's alone: who is in the socket's group must get here."""
SOCKET = "api.sock"
ENVIRONMENT = "POINTSMAN_SOCKET"
STATE_ENVIRONMENT = "POINTSMAN_STATE_DIR"


def default_socket() -> Path:
    """One socket for each network namespace; beside the state's folder where the environment names that."""
    if STATE_ENVIRONMENT in os.environ:
        return Path(f"{os.environ[STATE_ENVIRONMENT].rstrip('/')}-api", SOCKET)
    own = netns.folder()
    return (ROOT / own if own else ROOT) / SOCKET


def alias() -> Path | None:
    """What leads users who cannot tell that this is the first namespace to its socket: None elsewhere."""
    if STATE_ENVIRONMENT in os.environ or netns.folder():
        return None
    return ROOT / netns.numbered_folder()


def forget() -> None:
    """Remove what a killed daemon has left of its default socket; to be called where no daemon serves."""
    path, other = default_socket(), alias()
    for each in (path, *([] if other is None else [other])):
        with suppress(OSError):
            each.unlink()
    if path.parent != ROOT:
        with suppress(OSError):  # it holds something else
            path.parent.rmdir()


def socket_to_ask() -> Path:
    """Where commands look for a daemon."""
    return Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else default_socket()
