"""What every probe gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

LONGEST_SAID = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check went, and why in a few words. ``ok`` None: it could not be tried, which is not the node's fault."""

    ok: bool | None
    said: str


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to send, and the outcome once there is one."""

    send: bytes = b""
    outcome: Outcome | None = None


WAIT = Step()


def success(said: str) -> Outcome:
    return Outcome(ok=True, said=said)


def failure(said: str) -> Outcome:
    return Outcome(ok=False, said=said)


def untried(said: str) -> Outcome:
    return Outcome(ok=None, said=f"not tried: {said}")


def passed(said: str, send: bytes = b"") -> Step:
    return Step(send, success(said))


def failed(said: str, send: bytes = b"") -> Step:
    return Step(send, failure(said))


class Probe(Protocol):
    """One conversation. Hostile answers end it, they never raise."""

    def start(self) -> Step:
        """Begin; streams are connected already."""

    def received(self, data: bytes) -> Step:
        """Take what came: a datagram, or some bytes of a stream, of which none are its end."""


def plain(text: bytes | str) -> str:
    """What a node said, on one line, short, without anything that a terminal would act on."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return "".join(one if one.isprintable() else "?" for one in words[:LONGEST_SAID])
