"""Devices, NATs, a gateway and its nodes as network namespaces on one machine."""

from pointsman.lab.build import Lab, take_down
from pointsman.lab.capture import Capture, Frame
from pointsman.lab.errors import LabError
from pointsman.lab.inside import inside
from pointsman.lab.nat import Nat
from pointsman.lab.topology import ONLINK_VIP, VIP, Topology

__all__ = [
    "ONLINK_VIP",
    "VIP",
    "Capture",
    "Frame",
    "Lab",
    "LabError",
    "Nat",
    "Topology",
    "inside",
    "take_down",
]
