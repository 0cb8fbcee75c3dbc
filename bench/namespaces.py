"""Network namespaces: made under a name of our own, entered for a while, always removed."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CLONE_NEWNET = 0x40000000
_CONNTRACK_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_libc = ctypes.CDLL(None, use_errno=True)


class CommandError(RuntimeError):
    """A command that ended badly, with what it said."""


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> str:
    """Run a command to its end and return its standard output."""
    done = subprocess.run(
        command,
        input=stdin,
        env=None if env is None else {**os.environ, **env},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
    return done.stdout


class Namespace:
    """One network namespace; ``with`` removes it whatever happens inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Namespace:
        run(["ip", "netns", "add", self.name])
        try:
            run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        run(["ip", "netns", "delete", self.name])

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into the namespace: live frames and XDP want interfaces of the caller's own."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)
            os.close(there)

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> str:
        return run(["ip", "netns", "exec", self.name, *command], stdin=stdin, env=env, timeout=timeout)

    def ip(self, lines: Sequence[str]) -> None:
        """Run many ``ip`` commands at once."""
        run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        with self.entered():
            for name, value in settings.items():
                Path("/proc/sys", *name.split(".")).write_text(str(value))

    def conntrack_entries(self) -> int:
        with self.entered():
            return int(_CONNTRACK_COUNT.read_text()) if _CONNTRACK_COUNT.exists() else 0

    def flush_conntrack(self) -> None:
        """Delete every conntrack entry of the namespace, so that one cell does not inherit another's."""
        nlm_f_request, nlm_f_ack, nlmsg_error = 1, 4, 2
        delete = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; with no tuple it means all
        message = struct.pack("=IHHIIBBH", 20, delete, nlm_f_request | nlm_f_ack, 1, 0, 0, 0, 0)
        with self.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
            netlink.settimeout(30)
            netlink.send(message)
            answer = netlink.recv(4096)
        kind, error = struct.unpack_from("=4xH10xi", answer)
        if kind == nlmsg_error and error:
            raise CommandError(f"flush conntrack: {os.strerror(-error)}")


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
