"""Tell systemd how the daemon is (sd_notify(3)); nothing where nobody listens."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

ENVIRONMENT = "NOTIFY_SOCKET"


def notify(*lines: str) -> None:
    """Send assignments such as ``READY=1``; a supervisor that has gone is none of the daemon's business."""
    address = os.environ.get(ENVIRONMENT, "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as handle:
        handle.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """``Type=notify-reload`` wants the time of it, too."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_seconds() -> float | None:
    """How often the supervisor wants to hear of the daemon at the least, None where it does not ask."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000
