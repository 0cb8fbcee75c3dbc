"""What the programs of multihomed servers share with us: bpf/multihome.h, to the byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pointsman.model import PortRange

PORT_WORDS = 1024
"""Mirrors the macro: words of 64 bits, a bit for each port."""
PEER = struct.Struct("=16s2sH")
"""Mirrors struct peer: address, port, local_port."""
ASKED = struct.Struct("=16sI")
"""Mirrors struct asked: address, interface."""
UPLINK = struct.Struct("=16s")
"""Mirrors struct uplink: name."""

PROGRAMS = {
    "multihome_arrive": 0,
    "multihome_connect4": 10,
    "multihome_connect6": 11,
    "multihome_send4": 14,
    "multihome_send6": 15,
}
"""The programs, each with where it is attached (enum bpf_attach_type)."""

MAPS = ("ports", "uplinks", "peers")


def port_words(ports: Iterable[PortRange]) -> list[bytes]:
    """The values of the map ``ports``, in the order of its keys."""
    bits = 0
    for own in ports:
        bits |= ((1 << (own.last - own.first + 1)) - 1) << own.first
    return [(bits >> 64 * word & (1 << 64) - 1).to_bytes(8, "little") for word in range(PORT_WORDS)]
