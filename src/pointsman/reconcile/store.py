"""What is kept for longer than a boot: operators' orders, and the configurations that were in force.

The first network namespace's is in /var/lib/pointsman; another one's is beside its state, and ends with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pointsman.kernel.errors import KernelError
from pointsman.model.orders import Order, OrderBook, Replacement, Verb
from pointsman.reconcile.state import ROOT, StrangeFileError, set_aside, state_directory

PLACE = Path("/var/lib/pointsman")
ENVIRONMENT = "POINTSMAN_STORE_DIR"
KEPT = 20
"""Configurations that are kept, the newest."""
VERSION = 1
_NAME = re.compile(r"(\d{6})\.toml")


@dataclass(frozen=True, slots=True)
class Kept:
    """A configuration that was in force; ``at`` is when it came to be, in seconds since the epoch."""

    number: int
    at: float
    filename: str
    who: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration on trial: unless it is confirmed by ``until`` the one of ``back_to`` comes back."""

    until: float
    back_to: int


def store_directory() -> Path:
    if ENVIRONMENT in os.environ:
        return Path(os.environ[ENVIRONMENT])
    state = state_directory()
    return PLACE if state == ROOT else state / "store"


class Store:
    """Hold the state's lock around what reads, changes and writes it. Every method may raise KernelError."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or store_directory()
        self._orders = self._directory / "orders.json"
        self._trial = self._directory / "trial.json"
        self._history = self._directory / "history"

    def orders(self) -> OrderBook:
        data = self._read(self._orders)
        if data is None:
            return OrderBook()
        try:
            return OrderBook(
                tuple(Order(**{**row, "verb": Verb(row["verb"])}) for row in data["orders"]),
                tuple(
                    Replacement(**{**row, **{key: tuple(row[key]) for key in ("addresses", "instead_of")}})
                    for row in data["replacements"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._strange(self._orders) from None

    def write_orders(self, book: OrderBook) -> None:
        if book == OrderBook():
            self._remove(self._orders)
            return
        rows = {
            "orders": [asdict(order) for order in book.orders],
            "replacements": [asdict(each) for each in book.replacements],
        }
        self._write(self._orders, {"version": VERSION, **rows})

    def trial(self) -> Trial | None:
        data = self._read(self._trial)
        try:
            return None if data is None else Trial(float(data["until"]), int(data["back_to"]))
        except (KeyError, TypeError, ValueError):
            raise self._strange(self._trial) from None

    def write_trial(self, trial: Trial | None) -> None:
        if trial is None:
            self._remove(self._trial)
        else:
            self._write(self._trial, {"version": VERSION, **asdict(trial)})

    def keep(self, text: str, filename: str, who: str, at: float) -> Kept:
        """Keep a configuration that is in force now; the same text as the newest is kept once."""
        every = self.kept()
        digest = hashlib.sha256(text.encode()).hexdigest()
        if every and every[-1].digest == digest:
            return every[-1]
        number = every[-1].number + 1 if every else 1
        kept = Kept(number, at, filename, who, len(text.encode()), digest)
        self._write_text(self._place(number), text)
        self._write(self._place(number).with_suffix(".json"), {"version": VERSION, **asdict(kept)})
        trial = self.trial()
        for old in every[: max(0, len(every) + 1 - KEPT)]:
            if trial is not None and old.number == trial.back_to:
                continue
            for suffix in (".toml", ".json"):
                self._remove(self._place(old.number).with_suffix(suffix))
        return kept

    def kept(self) -> list[Kept]:
        """The oldest first."""
        return sorted(self._each_kept(), key=lambda each: each.number)

    def text(self, number: int) -> str | None:
        """A kept configuration, None where that number is not kept."""
        try:
            return self._place(number).read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise KernelError(f"cannot read {self._place(number)}: {problem}") from None

    def set_aside(self) -> list[str]:
        """Move files away that cannot be understood; what was done, in words."""
        told = []
        for path, read in ((self._orders, self.orders), (self._trial, self.trial)):
            try:
                read()
            except StrangeFileError:
                told.append(set_aside(path))
        return told

    def forget(self) -> None:
        """Forget orders and what is on trial; in a network namespace of its own, all of it."""
        for path in (self._orders, self._trial):
            self._remove(path)
        if self._directory.is_relative_to(ROOT):
            for path in (*self._history.glob("*"), self._history, self._directory):
                with suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()

    def _each_kept(self) -> Iterator[Kept]:
        for path in self._history.glob("*.toml"):
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            # A process that was killed in between has left the text alone, which is what matters.
            told = self._read(path.with_suffix(".json"), strange=False) or {}
            with suppress(OSError, ValueError, TypeError):
                found = path.stat()
                digest = str(told.get("digest", ""))
                if not digest or told.get("size") != found.st_size:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                base = Kept(int(match[1]), found.st_mtime, "", "", found.st_size, digest)
                yield replace(
                    base,
                    at=float(told.get("at", base.at)),
                    filename=str(told.get("filename", "")),
                    who=str(told.get("who", "")),
                )

    def _place(self, number: int) -> Path:
        return self._history / f"{number:06}.toml"

    def _read(self, path: Path, *, strange: bool = True) -> Any:
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise KernelError(f"cannot read {path}: {problem.strerror}; run as root") from None
        except ValueError:
            if not strange:
                return None
            raise self._strange(path) from None
        if not isinstance(data, dict) or data.get("version") != VERSION:
            if not strange:
                return None
            raise self._strange(path)
        return data

    def _strange(self, path: Path) -> StrangeFileError:
        return StrangeFileError(f"{path} is not this version's; move it away, and what it held is forgotten")

    def _write(self, path: Path, data: dict[str, Any]) -> None:
        self._write_text(path, json.dumps(data))

    def _write_text(self, path: Path, text: str) -> None:
        """In one step, so that a killed process leaves the old one or the new one."""
        temporary = path.with_suffix(".new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(path)
        except OSError as problem:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise KernelError(f"cannot write {path}: {problem.strerror}") from None

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise KernelError(f"cannot remove {path}: {problem.strerror}") from None
