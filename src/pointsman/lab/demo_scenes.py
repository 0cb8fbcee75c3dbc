"""The demo's course, scene by scene."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final, Protocol

from pointsman.lab import demo_claims as claims
from pointsman.lab.demo_claims import DRAINED, NODES, Claim, Figures
from pointsman.lab.demo_crowd import (
    BY_ADDRESS,
    BY_ADDRESS_CONTROL,
    NO_CID_CONTROL,
    SERVED,
    Crowd,
    broken,
    end,
    sessions,
)
from pointsman.lab.demo_peers import Client, total
from pointsman.lab.demo_site import FAMILIES, Site, of_ports
from pointsman.lab.topology import VIP
from pointsman.wire import dtls

TITLES: Final = (
    "set up 3 nodes, 2 NATs and a gateway; `pointsman apply`",
    "120 devices shake hands, half over IPv4, half over IPv6",
    "NATs change address and ports, devices change ports",
    f"{DRAINED} is drained while that goes on, and enabled again",
    "records come with node ids that nobody has",
    "count everything once more",
)
_TURNS: Final = 10
_UNKNOWN: Final = 500  # of each family


class View(Protocol):
    """Where the demo is seen."""

    def scene(self, number: int) -> None:
        """A scene of ``TITLES`` begins."""

    def show(self, figures: Figures) -> None: ...


class Scenes:
    """``seconds`` is how long addresses keep changing, the longest scene."""

    def __init__(self, site: Site, view: View, seconds: float) -> None:
        self._site, self._view, self._seconds = site, view, seconds
        self._crowd = Crowd(site)
        self._draining = False

    def play(self) -> list[Claim]:
        scenes = (self._set_up, self._shake_hands, self._change, self._drain, self._send_unknown)
        found: list[Claim] = []
        for number, scene in enumerate(scenes):
            self._view.scene(number)
            found += scene()
        self._view.scene(len(scenes))
        found += self._conclude()
        # In the order that they are told in: survival is known last, as the sessions live to the end.
        survived = next(each for each in found if each.what.startswith("Sessions survive"))
        found.remove(survived)
        found.insert(1, survived)
        return sorted(found, key=lambda claim: claim.control)

    def _set_up(self) -> list[Claim]:
        self._site.foreign_masquerade()
        self._site.apply(SERVED, BY_ADDRESS)
        for service in (SERVED, BY_ADDRESS):
            self._site.serve(NODES, service.port)
        return []

    def _shake_hands(self) -> list[Claim]:
        crowd = self._crowd
        crowd.start_main()
        self._established(crowd.main)
        found = claims.spread({node: crowd.living_on(node) for node in NODES}, sessions(crowd.main))
        crowd.start_controls()
        for clients in crowd.controls.values():
            self._established(clients)
        return [found]

    def _change(self) -> list[Claim]:
        crowd = self._crowd
        self._pause(0.7)  # some requests before anything changes: until then the controls work as well
        before = {name: broken(own) for name, own in crowd.controls.items()}
        for turn in range(_TURNS):
            crowd.remap()
            self._pause(self._seconds / _TURNS / 2)
            if turn % 2:
                crowd.rebind()
            self._pause(self._seconds / _TURNS / 2)
        self._pause(1.6)  # until the last requests of the controls are given up
        said = {
            BY_ADDRESS_CONTROL: "By address alone, not by CID",
            NO_CID_CONTROL: "By CID, but devices have none",
        }
        return [
            claims.control(
                what,
                sessions=sessions(crowd.controls[name]),
                broken_before=before[name],
                broken=broken(crowd.controls[name]),
                end=end(crowd.controls[name]),
            )
            for name, what in said.items()
        ]

    def _drain(self) -> list[Claim]:
        crowd, site = self._crowd, self._site
        harmed = crowd.harmed_on(DRAINED)
        site.order("drain", SERVED.name, DRAINED)
        self._draining = True
        before = total(site.stats(port=SERVED.port, node=DRAINED))
        crowd.remap()
        self._pause(1.0)
        draining = self._newcomers()
        crowd.remap()
        self._pause(1.0)
        after = total(site.stats(port=SERVED.port, node=DRAINED))
        site.order("enable", SERVED.name, DRAINED)
        self._draining = False
        enabled = self._newcomers()
        after.subtract(before)
        return [
            claims.living(
                crowd.living_on(DRAINED),
                answered=after["answered"],
                harmed=crowd.harmed_on(DRAINED) - harmed,
                moved=after["moved"],
            ),
            claims.elsewhere(draining, after["handshakes"], enabled),
        ]

    def _send_unknown(self) -> list[Claim]:
        site = self._site
        counted = site.counted(SERVED.name, "cid_unknown")
        reached = total(site.stats(port=SERVED.port))["unknown_cid"]
        for family in FAMILIES:
            with site.lab.socket("client", _inet(family), socket.SOCK_DGRAM) as handle:
                for i in range(_UNKNOWN):
                    cid = bytes([4 + i % 252]) + i.to_bytes(5, "big")  # the nodes have 1, 2 and 3
                    handle.sendto(dtls.cid_record(cid, seq=i + 1), (VIP[family], SERVED.port))
                    if i % 100 == 0:
                        self._pause(0.05)
        self._pause(0.3)
        counted = site.counted(SERVED.name, "cid_unknown") - counted
        reached = total(site.stats(port=SERVED.port))["unknown_cid"] - reached
        return [claims.unknown(_UNKNOWN * len(FAMILIES), counted, reached)]

    def _conclude(self) -> list[Claim]:
        crowd, site = self._crowd, self._site
        ends = end(crowd.main)
        nodes = total(site.stats(port=SERVED.port))
        self._plain_datagrams()
        tracked = site.tracked()
        own = of_ports(tracked, (SERVED.port, BY_ADDRESS.port))
        return [
            claims.survival(
                crowd.figures,
                ends,
                sessions=sessions(crowd.main),
                broken=broken(crowd.main),
                moved=nodes["moved"],
                new=nodes["handshakes"] - crowd.handshakes,
                turns=_TURNS,
            ),
            claims.untracked(own, [line for line in tracked if line not in own], len(FAMILIES)),
            claims.checksums(site.lab.checksum_errors()),
        ]

    def _established(self, clients: Sequence[Client]) -> None:
        deadline = time.monotonic() + 15
        while any(len(client.nodes) < client.sessions for client in clients):
            self._pause(0.1)
            if time.monotonic() > deadline:
                break
        for client in clients:
            client.established(1)

    def _newcomers(self) -> dict[str, int]:
        """How many newcomers went to which node."""
        clients = self._crowd.start_newcomers()
        self._established(clients)
        ends = total(client.finish() for client in clients)
        return {node: ends[f"node {node}"] for node in NODES}

    def _pause(self, seconds: float) -> None:
        """Let time pass, and show what happens meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self._view.show(self._crowd.refresh(draining=self._draining))
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))

    def _plain_datagrams(self) -> None:
        """One datagram of each family through the gateway that is no DTLS, so that tracking is seen to be on."""
        for family in FAMILIES:
            target = self._site.lab.address("n1", family)
            with self._site.lab.socket("client", _inet(family), socket.SOCK_DGRAM) as handle:
                handle.sendto(b"plain", (target, 9))
        time.sleep(0.2)


def _inet(family: int) -> socket.AddressFamily:
    return socket.AF_INET6 if family == 6 else socket.AF_INET
