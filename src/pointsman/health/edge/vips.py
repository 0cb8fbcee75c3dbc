"""Puts in place what checks of VIPs at nodes go by."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

from pointsman.health.at_node import Lane, Way, ports, table, way_to
from pointsman.health.edge.tunnels import Tunnels
from pointsman.health.targets import Target
from pointsman.health.through_tunnel import elements
from pointsman.kernel.errors import KernelError
from pointsman.kernel.iproute import addresses, ways_to
from pointsman.kernel.nft import Nft


class Vips:
    """The table and the filters of one lane; ``problem`` says why, where the machine refuses or has no place."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._ports: dict[Target, int] = {}
        self._placed = False
        self._refused = ""
        self._lost: dict[Target, str] = {}
        self._ways: dict[Target, Way] = {}
        self._tunnels = Tunnels(lane)

    def port(self, target: Target) -> int:
        """The port that the target is asked from; 0 is any."""
        return self._ports.get(target, 0)

    def problem(self, target: Target) -> str:
        """Why the VIP at the target's node cannot be asked; empty where it can, or there is none."""
        if target.vip is None:
            return ""
        return self._refused or self._lost.get(target, "")

    def want(self, targets: Iterable[Target]) -> None:
        """Have all fit these targets; nodes' links are those of the routes at this moment."""
        wanted = [target for target in targets if target.vip is not None]
        self._ports = ports(self._lane, wanted, self._ports)
        self._refused = ""
        if not wanted and not self._placed:
            return
        try:
            ways = self._ways = _ways(wanted)
            self._lost = {
                target: "no port is left for it" if target not in self._ports else "no way to the node"
                for target in wanted
                if target not in self._ports or target not in ways
            }
            self._lost |= self._tunnelled(wanted, ways)
            kept = {target: port for target, port in self._ports.items() if target not in self._lost}
            self._placed = True
            with Nft() as nft:
                nft.apply(table(self._lane, kept, ways))
            self._tunnels.tidy()
        except KernelError as refusal:
            self._refused = f"the table netdev {self._lane.table}: {refusal}"
            return
        self._placed = bool(wanted)

    def _tunnelled(self, wanted: Iterable[Target], ways: dict[Target, Way]) -> dict[Target, str]:
        """Have the filters for targets with tunnels in place, and say which have none, and why."""
        those = {target: ways[target].out for target in wanted if target.tunnel and target not in self._lost}
        refused = self._tunnels.want(
            elements({target: self._ports[target] for target in those}), set(those.values())
        )
        return {target: refused[link] for target, link in those.items() if link in refused}

    def is_lost(self) -> bool:
        """Whether the routes lead another way than when this was put in place, or others took the table away."""
        wanted, ways = list(self._ports), self._ways
        if not self._placed or not wanted:
            return False
        if _ways(wanted) != ways or self._tunnels.is_lost():
            return True
        with Nft() as nft:
            tables = (entry.get("table", {}) for entry in nft.listing("list tables netdev"))
            return self._lane.table not in {table.get("name") for table in tables}

    def close(self) -> None:
        """Take all away."""
        if self._placed:
            with suppress(KernelError), Nft() as nft:  # the next one to start replaces it
                nft.apply(table(self._lane, {}, {}))
            with suppress(KernelError):
                self._tunnels.close()
            self._placed = False


def _ways(wanted: Iterable[Target]) -> dict[Target, Way]:
    """The ways to those that have one."""
    routes = ways_to(list(dict.fromkeys(target.address for target in wanted)))
    carriers, links = addresses(), {name for _, name in socket.if_nameindex()}
    found = {target: way_to(target, routes.get(target.address), carriers) for target in wanted}
    return {target: way for target, way in found.items() if way is not None and way.out in links}
