"""The XDP plane's maps at scale, in one process: ``python -m bench.maps FILE`` prints seconds and bytes as JSON.

It stands for a daemon, which compiles and compares in memory: what is measured is the way from a change to the maps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from pointsman.config import load
from pointsman.dataplane.xdp import XdpPlane
from pointsman.model import NodeState, NodeStates
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.xdp.compile import compile_listeners

INTERFACES = ("lan", "wan")
CHANGES = 21


def main(file: str) -> None:
    """Apply FILE to a namespace that has the interfaces, change one node again and again, and take all down."""
    gateway = load(Path(file)).gateway
    nodes = [node for service in gateway.services for node in service.nodes]
    labels = allocate(nodes, Labels(), now=0, rest=0)
    plane = XdpPlane("netns-bench")

    def inputs(states: NodeStates) -> PlaneInputs:
        return PlaneInputs(gateway, states, labels, interfaces=INTERFACES)

    have = inputs(NodeStates())
    start = time.perf_counter()
    compile_listeners(have)
    compiled = time.perf_counter() - start
    try:
        start = time.perf_counter()
        plane.apply(None, have, "first")
        loaded = time.perf_counter() - start
        changes = []
        service = gateway.services[len(gateway.services) // 2]
        for turn in range(CHANGES):
            state = NodeState.UP if turn % 2 else NodeState.DRAINING
            want = inputs(NodeStates().with_state(service.name, service.nodes[2].name, state))
            start = time.perf_counter()
            plane.apply(have, want, f"change-{turn}")
            changes.append(time.perf_counter() - start)
            have = want
        memory = plane.memory()
    finally:
        plane.remove()
    change = statistics.median(changes)
    print(json.dumps({"compile": compiled, "load": loaded, "change": change, "memory": memory}))


if __name__ == "__main__":
    main(sys.argv[1])
