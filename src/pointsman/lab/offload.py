"""Switching an interface's offloads, in the current thread's namespace, without ethtool."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from enum import IntEnum
from typing import Final

from pointsman.lab.errors import LabError

_SIOCETHTOOL: Final = 0x8946


class Offload(IntEnum):
    """The ``ETHTOOL_S...`` command of linux/ethtool.h that sets it."""

    TX_CHECKSUM = 0x17
    GRO = 0x2C
    TSO = 0x1F
    GSO = 0x24


def set_offload(interface: str, offload: Offload, *, on: bool) -> None:
    value = array.array("I", (offload, int(on)))
    request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            fcntl.ioctl(handle, _SIOCETHTOOL, request)
        except OSError as error:
            raise LabError(f"{interface}: {offload.name} cannot be set: {error.strerror}") from error
