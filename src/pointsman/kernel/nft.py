"""Talk to nftables through a child process that holds the library."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from pointsman.kernel.errors import KernelError

CHILD = Path(__file__).with_name("nft_child.py")
_STATELESS, _JSON, _TERSE = 1 << 2, 1 << 4, 1 << 11
"""Flags of nft_ctx_output_set_flags(3)."""


class NftError(KernelError):
    """nftables refused a transaction, or its library died over it. A refused transaction changes nothing."""


class Nft:
    """One child with the library loaded; a context manager. A dead child is replaced at the next call."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the object

    def __enter__(self) -> Nft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            cast(IO[bytes], child.stdin).close()
            cast(IO[bytes], child.stdout).close()
            child.wait()

    def apply(self, transaction: str, afterwards: str = "") -> None:
        """Carry out one transaction, all of it or nothing; raise NftError.

        ``afterwards`` is another, carried out once no packet is under way that came before the first; the child sees
        to it, also where this process is killed meanwhile.
        """
        self._run(transaction, afterwards)

    def accepts(self, transaction: str) -> bool:
        """Whether library and kernel would take the transaction, without carrying it out."""
        try:
            self._run(transaction, dry_run=True)
        except NftError:
            return False
        return True

    def listing(self, command: str) -> list[dict[str, Any]]:
        """The objects that a ``list`` command shows, as libnftables' JSON has them (libnftables-json(5))."""
        document = json.loads(self._run(command, flags=_JSON) or '{"nftables": []}')
        return [entry for entry in document["nftables"] if "metainfo" not in entry]

    def text(self, command: str) -> str:
        """What a ``list`` command prints, without elements of sets and without counts."""
        return self._run(command, flags=_STATELESS | _TERSE)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._last_words.seek(0)
            self._last_words.truncate()
            try:
                child = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(CHILD)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._last_words,
                    close_fds=False,  # Python's are closed anyway, but for the lock: reconcile.state
                )
            except OSError as problem:
                raise KernelError(f"cannot start {sys.executable}: {problem.strerror}") from None
            greeting = json.loads(cast(IO[bytes], child.stdout).readline() or b"{}")
            if "ready" not in greeting:
                child.wait()
                raise KernelError(
                    f"nftables' library cannot be loaded ({greeting.get('missing', 'no reason given')}); "
                    "install the package nftables"
                )
            self._child = child
        return self._child

    def _run(self, text: str, afterwards: str = "", *, flags: int = 0, dry_run: bool = False) -> str:
        child = self._started()
        stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        parts = [part.encode() for part in (text, afterwards) if part]
        request = {"lengths": [len(part) for part in parts], "flags": flags, "dry_run": dry_run}
        try:
            stdin.write(json.dumps(request).encode() + b"\n" + b"".join(parts))
            stdin.flush()
            answer = json.loads(stdout.readline() or b"{}")
        except BrokenPipeError:
            answer = {}
        if "rc" not in answer:
            status = child.wait()
            self._child = None
            self._last_words.seek(0)
            words = " ".join(self._last_words.read(500).decode(errors="replace").split())
            raise NftError(
                f"nftables' library ended (status {status}) over a transaction; it said: {words!r}"
            )
        out = stdout.read(answer["out"]).decode(errors="replace")
        err = stdout.read(answer["err"]).decode(errors="replace")
        if answer["rc"] != 0:
            raise NftError(f"nftables refused: {_first_line(err)}")
        return out


def _first_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    if "Operation not permitted" in lines[0]:
        return "not permitted; run as root (CAP_NET_ADMIN)"
    return f"{lines[0]} in: {lines[1][:200]}" if len(lines) > 1 else lines[0]
