"""`pointsman` commands without the quarter of a second that Python takes to import what they need.

A server imports everything once and forks for each command. The child is what a fresh process would be: it lives
on the machine, has the caller's environment and directory, and output and exit status of its own. Cases about the
start of the command itself, or about killing it, start it with `site.POINTSMAN`.

Protocol: a datagram of JSON {"namespace", "argv", "env", "cwd"} with three descriptors: standard output, standard
error, and a pipe for the lines "pid" and "status". The server ends when its peer does.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

from pointsman.lab.inside import enter

LONGEST = 1 << 17
PR_SET_PDEATHSIG = 1


# in the cases' process


@cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        argv = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    return ours, process


def _ask(namespace: str, arguments: Sequence[str], out: int, err: int) -> FileIO:
    """Have the server start ``pointsman`` in a namespace; what it says of its process is to be read."""
    server, _ = _server()
    request = {
        "namespace": namespace,
        "argv": list(arguments),
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
    }
    reading, writing = os.pipe()
    answers = FileIO(reading)
    try:
        socket.send_fds(server, [json.dumps(request).encode()], [out, err, writing])
    except OSError:
        answers.close()
        raise
    finally:
        os.close(writing)
    return answers


def run(namespace: str, arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run ``pointsman`` with the arguments in a namespace to its end; its output is captured."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _ask(namespace, arguments, out.fileno(), err.fileno()) as answers:
            status = _wait(answers.fileno(), arguments, timeout)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(), err.read().decode()
    return subprocess.CompletedProcess(["pointsman", *arguments], status, stdout, stderr)


class Started:
    """A ``pointsman`` that goes on; it ends with these cases, if it is not ended before."""

    def __init__(self, namespace: str, arguments: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            self._answers = _ask(namespace, arguments, out.fileno(), out.fileno())
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._answers.fileno()], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
            self._answers.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._answers.fileno()], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(["pointsman"], timeout or 0.0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _wait(answers: int, arguments: Sequence[str], timeout: float) -> int:
    end, said = time.monotonic() + timeout, b""
    while True:
        if not select.select([answers], [], [], max(0.0, end - time.monotonic()))[0]:
            if b"\n" in said:
                with suppress(ProcessLookupError):
                    os.kill(int(said.split()[0]), signal.SIGKILL)
            raise subprocess.TimeoutExpired(["pointsman", *arguments], timeout)
        more = os.read(answers, 100)
        if not more:
            break
        said += more
    lines = said.split()
    assert len(lines) == 2, f"the server of commands ended over pointsman {' '.join(arguments)}"
    return int(lines[1])


# in the server


def _serve(peer: socket.socket) -> None:
    for module in pkgutil.walk_packages(importlib.import_module("pointsman").__path__, "pointsman."):
        if not module.name.startswith(("pointsman.lab.", "pointsman.kernel.nft_child")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its peer, which may still take things down
    while True:
        message, handles, _, _ = socket.recv_fds(peer, LONGEST, 3)
        if not message:
            return
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not os.fork():
            _keep(peer, json.loads(message), handles)
        for handle in handles:
            os.close(handle)


def _keep(peer: socket.socket, request: dict[str, Any], handles: list[int]) -> NoReturn:
    """Have the command run, and tell how it ended; the server does not wait for it."""
    peer.close()
    _die_with_parent()
    out, err, answers = handles
    pid = os.fork()
    if not pid:
        _die_with_parent()
        os.close(answers)
        _become(request, out, err)
    os.write(answers, b"%d\n" % pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(answers, b"%d\n" % status)
    os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(request: dict[str, Any], out: int, err: int) -> NoReturn:
    """Be the command."""
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        enter(request["namespace"])
        program = importlib.import_module("pointsman.cli.main")
        sys.argv = [str(program.__file__), *request["argv"]]
        sys.modules["__main__"] = program
        program.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as peer:
        _serve(peer)
