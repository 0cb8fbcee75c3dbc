"""How checks reach nodes that have a tunnel: the elements of bpf/checks.bpf.c's map.

What ``at_node`` does to packets is done before: the destination is the VIP already.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from pointsman.health.targets import Target
from pointsman.plan.xdp.abi import wire_address, wire_port

ASKED = Struct("<16s2s2x")
"""Mirrors struct asked: VIP, the check's port."""
WAY = Struct("<16s16s2s2x")
"""Mirrors struct way: outer source, node, GUE's port."""
SEGMENT = 1172
"""The largest segment of TCP that all tunnels take on all links of IPv6: 1280, less 48 outside and 60 inside."""


def elements(by_port: Mapping[Target, int]) -> dict[bytes, bytes]:
    """What each check's packets are sent in, by what they look like; targets without a tunnel are left out."""
    return {
        ASKED.pack(wire_address(tunnel.vip), wire_port(port)): WAY.pack(
            wire_address(tunnel.source), wire_address(tunnel.destination), wire_port(tunnel.port)
        )
        for target, port in by_port.items()
        if (tunnel := target.tunnel) is not None
    }
