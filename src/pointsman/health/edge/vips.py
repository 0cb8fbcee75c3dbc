"""Puts in place what checks of VIPs at nodes go by."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from pointsman.health.at_node import Lane, ports, table
from pointsman.health.targets import Target
from pointsman.kernel.errors import KernelError
from pointsman.kernel.iproute import devices_to
from pointsman.kernel.nft import Nft


class Vips:
    """The table of one lane; where the machine refuses it, or a target has no place in it, ``problem`` says why."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._ports: dict[Target, int] = {}
        self._placed = False
        self._refused = ""
        self._lost: dict[Target, str] = {}

    def port(self, target: Target) -> int:
        """The port that the target is asked from; 0 is any."""
        return self._ports.get(target, 0)

    def problem(self, target: Target) -> str:
        """Why the VIP at the target's node cannot be asked; empty where it can, or there is none."""
        if target.vip is None:
            return ""
        return self._refused or self._lost.get(target, "")

    def want(self, targets: Iterable[Target]) -> None:
        """Have the table fit these targets; nodes' links are those of the routes at this moment."""
        wanted = [target for target in targets if target.vip is not None]
        self._ports = ports(self._lane, wanted, self._ports)
        self._refused = ""
        if not wanted and not self._placed:
            return
        try:
            devices = devices_to(list(dict.fromkeys(target.address for target in wanted)))
            with Nft() as nft:
                nft.apply(table(self._lane, self._ports, devices))
        except KernelError as refusal:
            self._refused = f"the table netdev {self._lane.table}: {refusal}"
            return
        self._placed = bool(wanted)
        self._lost = {
            target: "no port is left for it" if target not in self._ports else "no route to the node"
            for target in wanted
            if target not in self._ports or not devices.get(target.address)
        }

    def close(self) -> None:
        """Take the table away."""
        if self._placed:
            with suppress(KernelError), Nft() as nft:  # the next one to start replaces it
                nft.apply(table(self._lane, {}, {}))
            self._placed = False
