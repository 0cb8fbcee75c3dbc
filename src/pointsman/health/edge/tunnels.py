"""Puts what checks send into tunnels: the program of bpf/checks.bpf.c where frames leave a link."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path

from pointsman.health.at_node import Lane
from pointsman.kernel import iproute
from pointsman.kernel.bpf import BpfError, Map, Object, Program
from pointsman.kernel.bpf_attach import attach_tc, detach_tc, tc_attached
from pointsman.kernel.errors import KernelError

OBJECT, MAIN, WAYS = "checks.bpf.o", "pointsman_check", "ways"
FOUND, MADE = 1, 2
"""Handles of the filter: the qdisc clsact was there, or was made for it. So who comes after a crash knows."""


class Tunnels:
    """The filters of one lane. They go in before what needs them, and out after."""

    def __init__(self, lane: Lane) -> None:
        self._priority = lane.priority
        self._loaded: tuple[Program, Map] | None = None
        self._links: set[int] = set()
        self._wanted: tuple[set[bytes], set[int]] = set(), set()
        self._swept = False

    def want(self, elements: Mapping[bytes, bytes], links: Collection[str]) -> dict[str, str]:
        """Have the elements in force on these links beside what there is; why it is refused, by link."""
        self._sweep()
        self._wanted = set(elements), set()
        if not links:
            return {}
        try:
            program, ways = self._load()
            for key, value in elements.items():
                ways.update(key, value)
        except KernelError as refusal:
            return {link: _refusal(link, refusal) for link in links}
        refused: dict[str, str] = {}
        for link in sorted(links):
            try:
                self._wanted[1].add(self._attach(program, link))
            except KernelError as refusal:
                refused[link] = _refusal(link, refusal)
        return refused

    def tidy(self) -> None:
        """Take away what ``want`` did not name."""
        keys, links = self._wanted
        for index in self._links - links:
            with suppress(KernelError):
                self._detach(index)
        self._links &= links
        if self._loaded is None:
            return
        if not links:
            self._unload()
            return
        for key in set(self._loaded[1].keys()) - keys:
            self._loaded[1].delete(key)

    def is_lost(self) -> bool:
        """Whether somebody took a filter away."""
        return not all(
            any(
                tc_attached(index, handle=handle, priority=self._priority, egress=True)
                for handle in (FOUND, MADE)
            )
            for index in self._links
        )

    def close(self) -> None:
        """Take everything away."""
        self._wanted = set(), set()
        self.tidy()
        self._unload()

    def _sweep(self) -> None:
        """Take away, once, what one before has left on any link; where that is refused there is nothing."""
        if not self._swept:
            self._swept = True
            with suppress(KernelError):
                for link in iproute.links().values():
                    self._detach(link.index)

    def _load(self) -> tuple[Program, Map]:
        if self._loaded is None:
            path = Path(str(resources.files("pointsman") / "programs" / OBJECT))
            if not path.exists():
                raise BpfError(f"{path} is missing: this installation has no compiled programs")
            with Object.open(path) as built:
                built.load()
                self._loaded = built.program(MAIN), built.map(WAYS)
        return self._loaded

    def _unload(self) -> None:
        if self._loaded is not None:
            for each in self._loaded:
                each.close()
            self._loaded = None

    def _attach(self, program: Program, link: str) -> int:
        """Also anew where somebody has taken it away; return the link's index."""
        try:
            index = socket.if_nametoindex(link)
        except OSError:
            raise KernelError("there is no such link") from None
        handle = MADE if tc_attached(index, handle=MADE, priority=self._priority, egress=True) else FOUND
        if attach_tc(program, index, handle=handle, priority=self._priority, egress=True):
            attach_tc(program, index, handle=MADE, priority=self._priority, egress=True)
            detach_tc(index, handle=FOUND, priority=self._priority, egress=True, remove_qdisc=False)
        self._links.add(index)
        return index

    def _detach(self, index: int) -> None:
        for handle in (FOUND, MADE):
            if tc_attached(index, handle=handle, priority=self._priority, egress=True):
                detach_tc(
                    index, handle=handle, priority=self._priority, egress=True, remove_qdisc=handle == MADE
                )


def _refusal(link: str, problem: KernelError) -> str:
    return f"the tunnel's filter on {link}: {problem}"
