"""Start, run and stop the daemon: signals, the supervisor, and the file where it is to be followed."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

from pointsman.api.operator import RefusedError
from pointsman.daemon.daemon import Daemon
from pointsman.daemon.served import Doors
from pointsman.kernel import sd_notify

FILE_LOOKED_AT_EVERY = 2.0
"""Seconds between looks at the file, where the daemon is to follow it."""
Look = tuple[int, int, int]
"""When the file was written, its size, and its number."""


async def serve(file: Path, *, follow_file: bool) -> None:
    """Serve until SIGTERM or SIGINT; forwarding stays.

    Raise ConfigError, KernelError, FatalFindingsError at the start.
    """
    daemon = Daemon(file)
    seen = _look(file)  # before it is read
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reloads.set)
    try:
        await daemon.start()
        doors = Doors(daemon)
        daemon.when_reloaded = doors.renew
        await doors.begin()
        try:
            sd_notify.notify("READY=1", f"STATUS=serving {file}")
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(daemon.run()),
                    tasks.create_task(doors.keep_open()),
                    tasks.create_task(_reload_on_signal(daemon, reloads)),
                    tasks.create_task(_watchdog(daemon)),
                ]
                if follow_file:
                    running.append(tasks.create_task(_follow(daemon, file, seen)))
                await stop.wait()
                sd_notify.notify("STOPPING=1")
                for task in running:
                    task.cancel()
        finally:
            await doors.close()
    finally:
        await daemon.close()


async def _reload_on_signal(daemon: Daemon, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        sd_notify.reloading()
        with suppress(RefusedError):  # it has been told, and the configuration before serves
            await daemon.reload("SIGHUP")
        sd_notify.notify("READY=1")


async def _follow(daemon: Daemon, file: Path, seen: Look | None) -> None:
    """Reload when the file is another one; one that is still being written to, and a trial's end, is waited for."""
    while True:
        await asyncio.sleep(FILE_LOOKED_AT_EVERY)
        found = _look(file)
        if found is None or found == seen or daemon.is_on_trial:
            continue
        await asyncio.sleep(FILE_LOOKED_AT_EVERY / 4)
        if _look(file) == found:
            seen = found
            with suppress(RefusedError):
                await daemon.reload("the file's change")


def _look(file: Path) -> Look | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


async def _watchdog(daemon: Daemon) -> None:
    """Tell the supervisor that loop and kernel thread go on; no word of it has the daemon ended and started again."""
    seconds = sd_notify.watchdog_seconds()
    if seconds is None:
        return
    while True:
        await daemon.alive()
        sd_notify.notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
