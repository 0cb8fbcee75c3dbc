"""Packets are sampled while nodes drain, to tell how many devices still name them."""

from __future__ import annotations

import asyncio

from pointsman.daemon.devices import EVERY, Devices, one_in
from pointsman.daemon.in_force import InForce
from pointsman.daemon.looking import Looking
from pointsman.daemon.wanted import Key
from pointsman.daemon.words import TROUBLE, line, log
from pointsman.model import NodeState
from pointsman.reconcile.state import now


class Sampling:
    """``devices`` has the estimates. Samples are read on the thread for what takes long."""

    def __init__(self, in_force: InForce, looking: Looking) -> None:
        self._in_force, self._looking = in_force, looking
        self.devices = Devices()
        self._is_on = True  # a daemon that was killed may have left it so
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            nodes = self._nodes()
            if nodes or self._is_on:
                await self._take(nodes)
            await asyncio.sleep(EVERY)

    async def close(self) -> None:
        if self._is_on:
            await self._take([])

    def _nodes(self) -> list[Key]:
        """Draining nodes whose devices can be told apart: nothing on the wire says how long a connection ID is."""
        in_force = self._in_force
        if in_force.wanted is None:
            return []
        return [
            (service.name, node.name)
            for service in in_force.wanted.gateway.services
            if service.connection_id is not None and service.connection_id.length is not None
            for node in service.nodes
            if in_force.states.of(service.name, node.name) is NodeState.DRAINING
        ]

    async def _take(self, nodes: list[Key]) -> None:
        share = one_in(self._looking.rates.found) if nodes else 0
        in_force = self._in_force
        try:
            found = await in_force.read(lambda: in_force.reconciler.named(nodes, share))
        except TROUBLE as problem:
            if (said := line(problem)) != self._trouble:
                self._trouble = said
                log.warning(f"packets cannot be sampled: {said}; tried again and again")
            return
        self._trouble = ""
        self.devices.take(found or [], nodes if found is not None else [], now())
        self._is_on = bool(nodes) and found is not None
