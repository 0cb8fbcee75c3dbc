"""Configurations: the file, what is applied in its place, trials, and the history of what was in force."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from pointsman.api import documents as api
from pointsman.api.operator import RefusedError
from pointsman.config import ConfigError, Loaded, load, parse
from pointsman.daemon.events import Kind
from pointsman.daemon.in_force import InForce
from pointsman.daemon.words import TROUBLE, line, refused, refusing
from pointsman.kernel.errors import KernelError
from pointsman.reconcile.state import AppliedState
from pointsman.reconcile.store import Trial


class Configurations:
    """``stale`` says why it is not the file that is in force, "" where it is."""

    def __init__(self, file: Path, in_force: InForce) -> None:
        self._file, self._in_force = file, in_force
        self._log = in_force.log
        self.trial: Trial | None = None
        self.stale = ""
        self._number: int | None = None
        """Which of the kept ones is in force, None where it could not be kept."""

    @property
    def ends_at(self) -> float | None:
        """When what is on trial goes back, on the clock of reconcile.state.now(); None where nothing is."""
        return None if self.trial is None else self.trial.until - self._in_force.epoch

    async def end_trial(self) -> None:
        """Go back from what is on trial where its time is over; raise RefusedError, KernelError."""
        async with self._in_force.turn:
            if self.trial is not None and self._in_force.date() >= self.trial.until:
                await self._roll_back(self.trial)

    async def first(self, found: AppliedState | None) -> Loaded:
        """What is on trial, or what that goes back to; else the file, or what was in force last."""
        if self.trial is not None and (loaded := await self._tried(self.trial, found)) is not None:
            self.stale = f"{loaded.filename} is, or was, on trial"
            return loaded
        try:
            return await self._in_force.do(lambda: load(self._file))
        except ConfigError as mistakes:
            last = await self.instead(found, mistakes)
            if last is None:
                raise
            return last

    async def _tried(self, trial: Trial, found: AppliedState | None) -> Loaded | None:
        """What a daemon that was killed over a trial had in force, or goes back to where its time is over."""
        reconciler, name = self._in_force.reconciler, str(self._file)
        text = None if found is None else found.text
        if self._in_force.date() >= trial.until:
            text = await self._in_force.do(lambda: reconciler.text(trial.back_to))
        elif found is not None:
            name = found.filename
        if text is None:
            return None
        own: str = text
        try:
            return await self._in_force.do(lambda: parse(own, name))
        except ConfigError:  # of another version
            return None

    async def instead(
        self, found: AppliedState | None, problem: Exception, of: Loaded | None = None
    ) -> Loaded | None:
        """What was in force last, now that ``problem`` keeps the file from it; None where that is the same text."""
        text = found.text if found is not None else None
        if text is None and (kept := await self._in_force.do(self._in_force.reconciler.kept)):
            text = await self._in_force.do(lambda: self._in_force.reconciler.text(kept[-1].number))
        if text is None or (of is not None and of.text == text):
            return None
        self.stale = f"the file cannot be applied: {line(problem)}"
        self._log.add(Kind.REFUSED, f"{self._file}: {line(problem)}; the last good configuration serves")
        last: str = text
        return await self._in_force.do(lambda: parse(last, str(self._file)))

    async def keep(self, loaded: Loaded, who: str) -> int | None:
        """Keep a configuration that works; a full disk keeps nobody from serving."""
        try:
            kept = await self._in_force.do(
                lambda: self._in_force.reconciler.keep(loaded.text, loaded.filename, who, time.time())
            )
        except KernelError as problem:
            self._log.add(Kind.FAILED, f"the configuration is not kept: {problem}")
            self._number = None
            return None
        self._number = kept.number
        return kept.number

    async def _change(self, loaded: Loaded, who: str) -> api.Applied:
        """Serve another configuration; where that fails the one before goes on, and RefusedError says why."""
        before = self._in_force.present()
        wanted = before.with_loaded(loaded)
        try:
            outcome = await self._in_force.apply(wanted)
        except TROUBLE as problem:
            self._log.add(Kind.REFUSED, f"{loaded.filename}: {line(problem)}", who=who)
            raise refused(problem) from None
        self._in_force.wanted = self._in_force.present().with_loaded(loaded)
        self._in_force.engine.want(self._in_force.gateway)
        if self.trial is None:
            await self._drop_contradicted()
        number = await self.keep(loaded, who)
        warnings = [each.render(loaded.filename) for each in loaded.warnings] + outcome.findings
        self._log.add(
            Kind.APPLIED,
            f"{loaded.filename}: {'; '.join(outcome.changes) or 'nothing to change'}",
            who=who,
            number=number,
        )
        self._in_force.wake.set()
        return api.Applied(changes=outcome.changes, warnings=warnings, number=number)

    async def _drop_contradicted(self) -> None:
        """The file has the last word of a node's addresses: a replacement that it contradicts does not come back."""
        book = self._in_force.present().book_that_holds()
        if book == self._in_force.present().book:
            return
        try:
            await self._in_force.write(book)
        except KernelError as problem:
            self._log.add(Kind.FAILED, f"a replacement that the file contradicts is not forgotten: {problem}")

    async def _roll_back(self, trial: Trial) -> None:
        """Raise RefusedError where it cannot be done now: it is on trial until it can."""
        reconciler = self._in_force.reconciler
        text = await self._in_force.do(lambda: reconciler.text(trial.back_to))
        if text is None:
            await self._write_trial(None)
            self._log.add(Kind.FAILED, f"configuration {trial.back_to} is not there to go back to")
            return
        loaded = await self._in_force.do(lambda: parse(text, str(self._file)))
        await self._change(loaded, "nobody's confirmation")
        is_the_file = await self._in_force.do(lambda: self._is_the_file(loaded))
        self.stale = "" if is_the_file else "the file's configuration was not confirmed, and rolled back"
        self._log.add(Kind.ROLLED_BACK, f"not confirmed in time: configuration {trial.back_to} is back")
        await self._write_trial(None)

    async def _write_trial(self, trial: Trial | None) -> None:
        await self._in_force.do(lambda: self._in_force.reconciler.write_trial(trial))
        self.trial = trial

    async def _with_trial(self, loaded: Loaded, who: str, confirm: float | None) -> api.Applied:
        before = self.trial
        if confirm is None:
            if before is not None:
                raise RefusedError("a configuration is on trial; confirm it first, or let it roll back")
            done = await self._change(loaded, who)
        else:
            back_to = before.back_to if before is not None else self._number
            if back_to is None:
                raise RefusedError("no configuration is kept to go back to; apply it without --confirm")
            # First, so that a daemon that is killed over it goes back as well.
            await self._write_trial(Trial(self._in_force.date() + confirm, back_to))
            try:
                done = await self._change(loaded, who)
            except RefusedError:
                await self._write_trial(before)
                raise
            self._in_force.wake.set()
        is_the_file = await self._in_force.do(lambda: self._is_the_file(loaded))
        self.stale = "" if is_the_file else f"{loaded.filename} was applied by {who}"
        return done

    def _is_the_file(self, loaded: Loaded) -> bool:
        try:
            return Path(loaded.filename) == self._file and load(self._file).text == loaded.text
        except ConfigError:
            return False

    async def apply(self, who: str, asked: api.ApplyRequest) -> api.Applied:
        with refusing():
            async with self._in_force.turn:
                return await self._apply(who, asked)

    async def _apply(self, who: str, asked: api.ApplyRequest) -> api.Applied:
        try:
            loaded = await self._in_force.do(lambda: parse(asked.text, asked.filename))
        except ConfigError as mistakes:
            self._log.add(Kind.REFUSED, f"{asked.filename}: {line(mistakes)}", who=who)
            raise refused(mistakes) from None
        return await self._with_trial(loaded, who, asked.confirm)

    async def reload(self, who: str) -> api.Applied:
        """Serve what the file says now."""
        with refusing():
            async with self._in_force.turn:
                return await self._reload(who)

    async def _reload(self, who: str) -> api.Applied:
        try:
            loaded = await self._in_force.do(lambda: load(self._file))
        except ConfigError as mistakes:
            self.stale = f"the file has mistakes: {line(mistakes)}"
            self._log.add(Kind.REFUSED, f"{self._file}: {line(mistakes)}", who=who)
            raise refused(mistakes) from None
        on_trial = self.trial is not None
        try:
            return await self._with_trial(loaded, who, None)
        except RefusedError as refusal:
            if not on_trial:
                self.stale = f"the file cannot be applied: {refusal.detail}"
            raise

    async def confirm(self, who: str) -> None:
        with refusing():
            async with self._in_force.turn:
                if self.trial is None:
                    raise RefusedError("nothing is on trial")
                await self._write_trial(None)
                await self._drop_contradicted()
        self._log.add(Kind.CONFIRMED, "the configuration stays", who=who)

    async def history(self) -> list[api.Kept]:
        with refusing():
            kept = await self._in_force.read(self._in_force.reconciler.kept)
        text = self._in_force.present().loaded.text.encode()
        digest = hashlib.sha256(text).hexdigest()
        current = max((each.number for each in kept if each.digest == digest), default=None)
        return [
            api.Kept(
                number=each.number,
                at=each.at,
                filename=each.filename,
                who=each.who,
                size=each.size,
                digest=each.digest,
                current=each.number == current,
            )
            for each in kept
        ]

    async def restore(self, who: str, number: int) -> api.Applied:
        with refusing():
            async with self._in_force.turn:
                return await self._restore(who, number)

    async def _restore(self, who: str, number: int) -> api.Applied:
        text = await self._in_force.do(lambda: self._in_force.reconciler.text(number))
        if text is None:
            raise RefusedError(
                f"no configuration {number} is kept; `pointsman history` lists them", status=404
            )
        loaded = await self._in_force.do(lambda: parse(text, f"configuration {number}"))
        return await self._with_trial(loaded, who, None)
