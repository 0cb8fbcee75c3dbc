"""Steady traffic under which cases change the gateway, and count what is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.site import COAPS, Site, cid

from pointsman.lab.build import Lab
from pointsman.lab.topology import VIP

TRAFFIC = [sys.executable, str(Path(__file__).with_name("traffic.py"))]


def overruns(lab: Lab) -> int:
    """What the kernel counts as lost for want of room in the queues of the lab's own cables.

    A busy machine lets a veth's queue of 256 wait for longer than that, whatever a gateway does.
    """
    return sum(
        link["stats64"]["tx"]["dropped"]
        for machine in ("sw", *(each.name for each in lab.topology.machines))
        for link in json.loads(lab.run(machine, ["ip", "-json", "-statistics", "link"]).stdout)
    )


class Load:
    """Numbered records for n1 at a rate, and what of them arrives."""

    def __init__(self, lab: Lab, rate: int) -> None:
        self._lab = lab
        self._overruns = overruns(lab)
        own = [lab.address("n1", family) for family in (4, 6)]
        self._receiver = lab.popen(
            "n1",
            [*TRAFFIC, "receive", own[0], str(COAPS), own[1], str(COAPS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._receiver.stdout is not None
        assert self._receiver.stdout.readline() == "ready\n"
        head = cid(1, body=bytes(16))[:-8].hex()
        self._senders = [
            lab.popen(
                "client",
                [*TRAFFIC, "send", VIP[family], str(COAPS), str(rate // 2), head],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for family in (4, 6)
        ]

    def stop(self) -> tuple[int, int]:
        """How many were sent (but for overruns of the lab's cables), and how many distinct ones arrived."""
        sent = sum(json.loads(sender.communicate()[0])["sent"] for sender in self._senders)
        time.sleep(0.5)
        seen = json.loads(self._receiver.communicate()[0])["seen"]
        return sent - (overruns(self._lab) - self._overruns), sum(seen.values())


def both_families(site: Site, nodes: Sequence[str], *, plane: str | None = None, **settings: str) -> str:
    """A file with listeners of both families, whatever the site's own."""
    lines = [
        "[gateway]",
        'name = "edge"',
        f'dataplane = "{plane or site.plane}"',
        "hash_seed = 1",
        "[[service]]",
        'name = "s"',
        'protocol = "dtls"',
        f'listen = ["{VIP[4]}:{COAPS}", "[{VIP[6]}]:{COAPS}"]',
        'connection_id = "californium"',
        *(f"{key} = {value}" for key, value in settings.items()),
    ]
    for name in nodes:
        addresses = ", ".join(f'"{site.lab.address(name, family)}"' for family in (4, 6))
        lines += ["[[service.node]]", f'name = "{name}"', f"id = {name[1:]}", f"address = [{addresses}]"]
    return "\n".join([*lines, ""])
