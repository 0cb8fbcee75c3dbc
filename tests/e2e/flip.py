"""Go from one configuration to another and back, as fast as the data plane takes it: FILE PLANE SECONDS.

Run on the gateway, over what has been applied there; a node that the file has not is leaving. Prints "ready",
then how often it went.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pointsman.config import load
from pointsman.model import NodeStates
from pointsman.plan.inputs import Leaving, PlaneInputs
from pointsman.reconcile.apply import standing
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.state import StateFile

LINGER = 60


def without(have: PlaneInputs, path: Path) -> PlaneInputs:
    gateway = load(path).gateway
    leaving = tuple(
        Leaving(old.name, node, have.labels.of(node), LINGER)
        for old, new in zip(have.gateway.services, gateway.services, strict=True)
        for node in old.nodes
        if node not in new.nodes
    )
    return PlaneInputs(
        gateway, NodeStates(), have.labels, leaving, (), have.capabilities, have.interfaces, have.clients_only
    )


def main(path: Path, plane_name: str, seconds: float) -> None:
    with Planes() as planes:
        _, have = standing(planes, StateFile())
        if have is None:
            raise SystemExit("nothing is applied here")
        plane = planes.of(plane_name)
        want = without(have, path)
        stamp = plane.stamp() or ""
        print("ready", flush=True)
        end = time.monotonic() + seconds
        times = 0
        while time.monotonic() < end:
            plane.apply(have, want, stamp)
            time.sleep(0.01)
            plane.apply(want, have, stamp)
            time.sleep(0.01)
            times += 1
        print(times, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
