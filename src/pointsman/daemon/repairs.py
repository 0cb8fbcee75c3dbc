"""What others change is looked for and put back; who does it again and again is met with longer waits."""

from __future__ import annotations

from pointsman.daemon.backoff import Backoff
from pointsman.daemon.events import Kind
from pointsman.daemon.in_force import InForce
from pointsman.daemon.words import TROUBLE, few, line
from pointsman.kernel.watch import Watch
from pointsman.reconcile.state import now

AUDIT_EVERY = 60.0
"""Seconds between looks for what others have changed without the kernel's word of it."""
AFTER_OWN = 5.0
"""Seconds until a look after changes of the daemon's own, which come with the same words."""
SETTLE = 0.3
"""Seconds that are waited for more of the kernel's words before looking."""


class Repairs:
    """``count`` is how often something was put back."""

    def __init__(self, in_force: InForce) -> None:
        self._in_force = in_force
        self.count = 0
        self._disturbed_at: float | None = None
        self._audit_at = now() + AUDIT_EVERY
        self._backoff = Backoff()

    @property
    def due_at(self) -> float:
        """When the next look is due."""
        return self._audit_at if self._disturbed_at is None else min(self._audit_at, self._disturbed_at)

    def heard(self, watch: Watch) -> None:
        """The kernel says that something has changed."""
        watch.drain()
        if self._in_force.changing:
            # Our own doing, most likely; somebody else's at the same time is not to be missed all the same.
            self._audit_at = min(self._audit_at, now() + AFTER_OWN)
        else:
            self._disturbed_at = self._disturbed_at or now() + SETTLE
        self._in_force.wake.set()

    def is_due(self) -> bool:
        time_now = now()
        due = time_now >= self.due_at
        if due and (wait := self._backoff.due(time_now)):
            self._disturbed_at = self._audit_at = time_now + wait
            return False
        return due

    async def look_for_damage(self, watch: Watch) -> None:
        self._disturbed_at, self._audit_at = None, now() + AUDIT_EVERY
        in_force = self._in_force
        wanted, states = in_force.effective(in_force.present())
        watch.drain()  # before the look: what comes behind it is another word
        try:
            outcome = await in_force.alone(
                lambda: in_force.reconciler.repair(wanted.loaded, states, wanted.replacements())
            )
            checks_lost_their_way = await in_force.do(in_force.engine.has_lost_its_way)
        except TROUBLE as problem:
            self._backoff = self._backoff.after_repair(now())
            self._disturbed_at = now() + max(self._backoff.delay, 1.0)
            in_force.log.add(
                Kind.FAILED,
                f"what others have changed could not be put back: {line(problem)}; "
                f"tried again in {self._backoff.delay:.0f} s",
            )
            return
        in_force.findings = outcome.findings
        if checks_lost_their_way:
            in_force.engine.want(in_force.gateway)
        if outcome.damage:
            self.count += 1
            self._backoff = self._backoff.after_repair(now())
            more = f"; the next repair waits {self._backoff.delay:.0f} s" if self._backoff.delay > 1 else ""
            in_force.log.add(Kind.REPAIRED, f"{few(outcome.damage)}{more}", damage=outcome.damage[:50])
            in_force.took(outcome, wanted)
