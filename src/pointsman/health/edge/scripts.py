"""script: a program of the operator's, in a process group of its own that does not outlive the try."""

from __future__ import annotations

import os
import signal
import subprocess
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress

from pointsman.health.edge.sockets import refusal
from pointsman.health.edge.streams import Done
from pointsman.health.probes.step import Outcome, plain
from pointsman.health.targets import Target
from pointsman.model.health import ScriptTerms

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = 4096
_GRACE = 0.05


class Scripts:
    """Begins scripts."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, target: Target, done: Done) -> Callable[[], None] | None:
        """Start a try; what is returned ends it early, None where it has ended."""
        terms = target.check.terms
        assert isinstance(terms, ScriptTerms)  # noqa: S101  # checks of this kind have nothing else
        try:
            process = subprocess.Popen(
                terms.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(target),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            reason = refusal(error)
            done(Outcome(reason.ok, f"{terms.command[0]}: {reason.said}"))
            return None
        try:
            watch = os.pidfd_open(process.pid)
        except OSError as error:
            _end_group(process)
            done(refusal(error))
            return None
        return _Script(self._loop, process, watch, done).close


def environment(target: Target) -> dict[str, str]:
    """What a script is told: the node's address and port, and nothing of what this process was told."""
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "POINTSMAN_ADDRESS": str(target.address),
        "POINTSMAN_PORT": "" if target.port is None else str(target.port),
        "POINTSMAN_FAMILY": str(target.address.version),
        "POINTSMAN_TIMEOUT": f"{target.check.timeout:g}",
    }


class _Script:
    """A script under way; what it writes is read away, and the first of it kept."""

    def __init__(
        self, loop: AbstractEventLoop, process: subprocess.Popen[bytes], watch: int, done: Done
    ) -> None:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        self._loop = loop
        self._process = process
        self._watch = watch
        self._done = done
        self._said = b""
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(watch, self._ended)

    def close(self) -> None:
        """End the script with all that it started."""
        self._loop.remove_reader(self._output)
        self._loop.remove_reader(self._watch)
        if _end_group(self._process):
            os.close(self._watch)
        else:
            self._loop.add_reader(self._watch, self._reap)

    def _reap(self) -> None:
        self._process.wait()
        self._loop.remove_reader(self._watch)
        os.close(self._watch)

    def _read(self) -> None:
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._output)
        self._said = (self._said + data)[:_KEPT]

    def _ended(self) -> None:
        with suppress(BlockingIOError):
            self._said = (self._said + os.read(self._output, _KEPT))[:_KEPT]
        self.close()
        status = self._process.returncode
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        lines = self._said.strip().splitlines()
        self._done(Outcome(status == 0, f"{how}: {plain(lines[0])}" if lines else how))


def _end_group(process: subprocess.Popen[bytes]) -> bool:
    """Kill the group; False where its leader is not gone at once, as a process is that waits for a disk."""
    # The process is not waited for before, so its number is still its own and the group's.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        return False
    return True
