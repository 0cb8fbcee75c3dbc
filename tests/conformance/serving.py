"""A daemon on a site's gateway: started, killed, asked, and made to wait for."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance import started
from tests.conformance.site import POINTSMAN, Site

PATIENCE = 60.0
"""Seconds that what must come is waited for on a busy machine."""


class Daemon:
    """``pointsman serve`` on the gateway; its log is kept, and what it says of itself can be asked for.

    ``afresh``, or with a ``prefix``, it is a Python of its own, else one that has imported all before (`started`).
    """

    def __init__(
        self, site: Site, file: Path, *arguments: str, prefix: tuple[str, ...] = (), afresh: bool = False
    ) -> None:
        self.site, self.file = site, file
        self._arguments = ["serve", str(file), *arguments]
        self._start = [*prefix, *POINTSMAN] if prefix or afresh else None
        self.log = site.lab.scratch / f"daemon-{time.monotonic_ns()}.log"
        self.process: subprocess.Popen[str] | started.Started | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        self.until(self._answers, "the daemon serves")

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        if self._start is None:
            self.process = started.Started(self.site.lab.namespace("gw"), self._arguments, self.log)
            return
        with self.log.open("a") as log:
            self.process = self.site.lab.popen("gw", [*self._start, *self._arguments], stderr=log, stdout=log)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.site.pointsman("events", "--json", check=False).returncode == 0

    def kill(self) -> None:
        """As the kernel does where memory is short."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and see that it does so without complaint."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        said = self.site.pointsman("events", "--json").stdout
        every = [json.loads(line) for line in said.splitlines()]
        return [event for event in every if kind in ("", event["kind"])]

    def wait_for(self, kind: str, text: str = "", *, patience: float = PATIENCE) -> dict[str, Any]:
        """The first event of a kind that says the text."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [event for event in self.events(kind) if text in event["text"]]
            return bool(found)

        self.until(there, f"an event {kind} that says {text!r}", patience=patience)
        return found[0]

    def until(self, true: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not true():
            assert time.monotonic() < end, f"{what}: not within {patience} s; {self.log.read_text()[-2000:]}"
            time.sleep(0.05)


@contextmanager
def serving(
    site: Site, text: str, *arguments: str, prefix: tuple[str, ...] = (), afresh: bool = False
) -> Iterator[Daemon]:
    daemon = Daemon(site, site.file(text), *arguments, prefix=prefix, afresh=afresh)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
    said = daemon.log.read_text()
    assert "Traceback" not in said, said
