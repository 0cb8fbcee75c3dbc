"""The demo's devices: DTLS clients behind two NATs, of both families, whose addresses change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.lab.demo_claims import DRAINED, NODES, Figures
from pointsman.lab.demo_peers import Client, end_all, total
from pointsman.lab.demo_site import FAMILIES, Served, Site

SERVED: Final = Served("coaps", 5684, NODES)
BY_ADDRESS: Final = Served("by-address", 5685, NODES, by_cid=False)
BY_ADDRESS_CONTROL: Final = "by address alone"
NO_CID_CONTROL: Final = "no CID"

_MAIN: Final = 30  # sessions behind each NAT, of each family: 120
_CONTROL: Final = 10
_NEW: Final = 15
_NATS: Final = (1, 2)
_FIRST_PORT: Final = 10_000
_PORTS: Final = 1_400  # that a NAT has in each round
_TALK: Final = ("--gap-ms", "300", "--start-gap-ms", "10", "--report-ms", "200")
_TRIES: Final = ("--timeout-ms", "500", "--retries", "2")


class Crowd:
    """The sessions that must live, and the controls that must not; all meet the same changes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._turn = 0
        self.main: list[Client] = []
        self.controls: dict[str, list[Client]] = {}
        self.handshakes = 0  # that were asked for at the service
        self.figures = Figures()

    def start_main(self) -> None:
        self.main = self._clients(SERVED, _MAIN, *_TALK)
        self.handshakes += sessions(self.main)

    def start_controls(self) -> None:
        without = self._clients(SERVED, _CONTROL, "--cid", "none", *_TALK)
        self.handshakes += sessions(without)
        by_address = self._clients(BY_ADDRESS, _CONTROL, *_TALK)
        self.controls = {BY_ADDRESS_CONTROL: by_address, NO_CID_CONTROL: without}

    def start_newcomers(self) -> list[Client]:
        """Sessions that shake hands, ask three times and end."""
        clients = self._clients(SERVED, _NEW, "--requests", "3", "--gap-ms", "100")
        self.handshakes += sessions(clients)
        return clients

    def remap(self) -> None:
        """Give every device another external address and another port, at both NATs and of both families."""
        self._turn += 1
        first = _FIRST_PORT + _PORTS * (self._turn % 20)
        for number in _NATS:
            nat = self._site.lab.nat(number)
            for family in FAMILIES:
                addresses = nat.external(family)
                nat.remap(addresses[self._turn % len(addresses)], (first, first + _PORTS - 1))
                self.figures.remaps += 1

    def rebind(self) -> None:
        """Let every device take a new socket."""
        for client in (*self.main, *(one for own in self.controls.values() for one in own)):
            client.rebind()
        self.figures.rebinds += 1

    def harmed_on(self, node: str) -> int:
        return sum(client.nodes.get(session) == node for client in self.main for session in client.broken)

    def living_on(self, node: str) -> int:
        return sum(list(client.nodes.values()).count(node) for client in self.main)

    def refresh(self, *, draining: bool) -> Figures:
        figures = self.figures
        sums = total(client.last("progress") for client in self.main)
        figures.requests, figures.answered = sums["requests"], sums["answered"]
        figures.lost, figures.repeated = sums["lost"] + sums["wrong"], sums["retries"]
        figures.nodes = {node: self.living_on(node) for node in NODES}
        figures.draining = DRAINED if draining else ""
        figures.controls = {name: (sessions(own), broken(own)) for name, own in self.controls.items()}
        return figures

    def _clients(self, service: Served, each: int, *more: str) -> list[Client]:
        return [
            self._site.client(f"dev{number}", family, service.port, each, *_TRIES, *more)
            for number in _NATS
            for family in FAMILIES
        ]


def sessions(clients: Sequence[Client]) -> int:
    return sum(client.sessions for client in clients)


def broken(clients: Sequence[Client]) -> int:
    return sum(len(client.broken) for client in clients)


def end(clients: Sequence[Client]) -> dict[str, int]:
    """End them all, and add up what they say."""
    return total(end_all(clients))
