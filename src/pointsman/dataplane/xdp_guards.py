"""The interfaces that the guard's program is attached to: no service's, so nothing else of ours is there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from pointsman.dataplane.xdp_maps import GUARD, MapSet
from pointsman.dataplane.xdp_ports import PinnedLinks, real_interfaces, renew
from pointsman.kernel import iproute
from pointsman.kernel.bpf import unpin
from pointsman.kernel.errors import KernelError


class GuardPorts:
    """The pinned links below a folder; each holds the guard's program on one interface."""

    def __init__(self, folder: Path) -> None:
        self._links = PinnedLinks(folder, "guard")
        self.programs = self._links.programs
        self.attached = self._links.attached

    def loose(self, maps: MapSet, names: Collection[str]) -> list[str]:
        """Interfaces that lack the set's program."""
        holding, program = self._links.holding(), maps.programs[GUARD].id
        return [link.name for link in real_interfaces(sorted(names)) if holding.get(link.index) != program]

    def leave(self, but: Collection[str]) -> None:
        """Detach from all interfaces but these."""
        kept = {link.index for link in iproute.links().values() if link.name in but}
        for index, pin in self._links.pins().items():
            if index not in kept:
                unpin(pin)

    def attach(self, maps: MapSet, names: Collection[str]) -> None:
        """Have the set's program on these interfaces too, each in one step; raise KernelError, all as before."""
        program, pins = maps.programs[GUARD], self._links.pins()
        done: list[Callable[[], None]] = []
        try:
            for link in real_interfaces(sorted(names)):
                if link.index not in pins or not renew(pins[link.index], program, done):
                    done.append(partial(unpin, self._links.attach(program, link)))
        except KernelError:
            for undo in reversed(done):
                undo()
            raise
