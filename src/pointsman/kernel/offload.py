"""What ethtool tells of an interface: its driver, and receive offloads that merge datagrams of different sessions."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO = 0x3
DRVINFO_BYTES = 196
ETHTOOL_GSTRINGS = 0x1B
ETHTOOL_GSSET_INFO = 0x37
ETHTOOL_GFEATURES = 0x3A
ETH_SS_FEATURES = 4
NAME_BYTES = 32

MERGING = ("rx-udp-gro-forwarding", "rx-gro-list")


def driver(interface: str) -> str:
    """The driver's name, as ethtool shows it; "" where the interface has none, or is not there."""
    buffer = array.array("B", struct.pack("=I", ETHTOOL_GDRVINFO) + bytes(DRVINFO_BYTES - 4))
    address, _ = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            fcntl.ioctl(probe, SIOCETHTOOL, struct.pack("16sP", interface.encode(), address))
        except OSError:
            return ""
    return bytes(buffer[4:36]).partition(b"\0")[0].decode()


def merging_offloads(interface: str) -> list[str]:
    """The offloads out of MERGING that are on; [] where the interface cannot tell (linux/ethtool.h)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:

        def call(buffer: array.array[int]) -> None:
            address, _ = buffer.buffer_info()
            fcntl.ioctl(probe, SIOCETHTOOL, struct.pack("16sP", interface.encode(), address))

        try:
            info = array.array("B", struct.pack("=IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0))
            call(info)
            count = struct.unpack_from("=I", info, 16)[0]
            strings = array.array("B", struct.pack("=III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count))
            strings.extend(bytes(count * NAME_BYTES))
            call(strings)
            blocks = (count + 31) // 32
            features = array.array("B", struct.pack("=II", ETHTOOL_GFEATURES, blocks) + bytes(blocks * 16))
            call(features)
        except OSError:
            return []
    names = [
        bytes(strings[12 + i * NAME_BYTES : 12 + (i + 1) * NAME_BYTES]).partition(b"\0")[0].decode()
        for i in range(count)
    ]
    # struct ethtool_get_features_block: available, requested, active, never_changed
    active = [struct.unpack_from("=I", features, 8 + 16 * block + 8)[0] for block in range(blocks)]
    return [name for bit, name in enumerate(names) if name in MERGING and active[bit // 32] >> (bit % 32) & 1]
