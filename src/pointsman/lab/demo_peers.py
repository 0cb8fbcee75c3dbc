"""Real DTLS peers (peers/README.md) on a lab's machines, and the JSON events they print."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pointsman.lab.build import Lab
from pointsman.lab.errors import LabError

Event = dict[str, Any]
HARM: Final = frozenset({"lost", "wrong", "closed", "failed"})
"""The client's events that tell of a session that did not go on as it should."""


def at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Peer:
    """One peer process; a thread reads what it prints."""

    def __init__(self, lab: Lab, machine: str, argv: Sequence[str | Path]) -> None:
        self.machine = machine
        self._child = lab.popen(
            machine,
            [str(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._events: list[Event] = []
        self._said: list[str] = []
        self._ended = False
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"peer on {machine}", daemon=True)
        self._thread.start()

    @property
    def said(self) -> list[str]:
        """The lines it printed that are no events."""
        with self._arrived:
            return list(self._said)

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        if stdin := self._child.stdin:
            stdin.write(f"{line}\n")
            stdin.flush()

    def events(self, kind: str) -> list[Event]:
        with self._arrived:
            return [event for event in self._events if event["event"] == kind]

    def last(self, kind: str) -> Event:
        """The newest event of a kind; {} if there was none."""
        with self._arrived:
            return next((event for event in reversed(self._events) if event["event"] == kind), {})

    def wait(self, done: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait until ``done`` is true, asked at every event; raise LabError if it does not come true."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not done():
                if self._ended:
                    raise LabError(
                        f"a peer on {self.machine} ended before {what}: {' '.join(self._said[-2:])}"
                    )
                if not self._arrived.wait(max(0.0, left := deadline - time.monotonic())) and left <= 0:
                    raise LabError(f"no {what} from a peer on {self.machine} within {timeout:g} s")

    def wait_for(self, kind: str, count: int = 1, timeout: float = 10.0) -> list[Event]:
        """The first ``count`` events of a kind."""
        self.wait(lambda: len(self.events(kind)) >= count, f"event {kind}", timeout)
        return self.events(kind)[:count]

    def ask(self, kind: str, timeout: float = 10.0) -> Event:
        """Have the peer report now."""
        before = len(self.events(kind))
        self._child.send_signal(signal.SIGUSR1)
        return self.wait_for(kind, before + 1, timeout)[-1]

    def freeze(self) -> None:
        """Let the process stand still; what arrives waits in its sockets."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Have the process end; a request under way is still waited for."""
        self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(5)

    def wait_end(self, timeout: float) -> None:
        self.wait(lambda: self._ended, "the end", timeout)
        self._child.wait(5)

    def end(self, timeout: float = 20.0) -> Event:
        """Have the process end, and return its summary."""
        self.stop()
        return self.finish(timeout)

    def finish(self, timeout: float = 60.0) -> Event:
        """Wait for the process to end of its own accord and return its summary."""
        self.wait_end(timeout)
        if not (summary := self.last("summary")):
            raise LabError(f"a peer on {self.machine} ended without a summary: {' '.join(self._said[-2:])}")
        return summary

    def _read(self) -> None:
        for line in self._child.stdout or ():
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            with self._arrived:
                if isinstance(event, dict):
                    self._events.append(event)
                else:
                    self._said.append(line.strip())
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()


class Server(Peer):
    """A node's DTLS server for one family; ``cid_id`` None means that it agrees on no connection IDs."""

    def __init__(
        self, lab: Lab, peer: Path, node: str, family: int, port: int, cid_id: int | None, *more: str
    ) -> None:
        self.node, self.family, self.port = node, family, port
        listen = at(lab.address(node, family), port)
        cid = ["--no-cid"] if cid_id is None else ["--cid-id", str(cid_id)]
        super().__init__(
            lab, node, [peer, "server", "--quiet", "--listen", listen, "--name", node, *cid, *more]
        )
        self.wait_for("ready")

    def stats(self) -> Event:
        return self.ask("stats")


class Client(Peer):
    """Some sessions from one machine to one listener."""

    def __init__(self, lab: Lab, peer: Path, machine: str, listener: str, sessions: int, *more: str) -> None:
        self.sessions, self.listener = sessions, listener
        super().__init__(
            lab, machine, [peer, "client", "--connect", listener, "--sessions", str(sessions), *more]
        )

    def established(self, timeout: float = 20.0) -> None:
        """Wait until every session has had its first answer."""
        self.wait_for("session", self.sessions, timeout)

    def now(self) -> Event:
        return self.ask("progress")

    def rebind(self) -> None:
        """Have every session take a new socket, and thus another source port."""
        self.say("rebind")

    @property
    def nodes(self) -> dict[int, str]:
        """The node of each session's first answer."""
        return {event["session"]: event["node"] for event in self.events("session")}

    @property
    def broken(self) -> set[int]:
        """The sessions that were harmed: an answer missing or wrong, no handshake, or ended by the server."""
        with self._arrived:
            return {event["session"] for event in self._events if event["event"] in HARM}


def total(events: Iterable[Event]) -> Counter[str]:
    """The numbers of several reports added up; those of nodes have the key ``node NAME``."""
    sums: Counter[str] = Counter()
    for event in events:
        for key, value in event.items():
            if key == "nodes":
                sums.update({f"node {name}": count for name, count in value.items()})
            elif isinstance(value, int) and not isinstance(value, bool):
                sums[key] += value
    return sums


def end_all(peers: Sequence[Peer], timeout: float = 20.0) -> list[Event]:
    """End them at once, and return their summaries."""
    for peer in peers:
        peer.stop()
    return [peer.finish(timeout) for peer in peers]
