"""The resolved configuration and the states of its nodes, as frozen values."""

from pointsman.model.endpoint import Address, Endpoint, Family
from pointsman.model.gateway import (
    CidPolicy,
    ConnectionIdRange,
    DataPlaneChoice,
    Forward,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Protocol,
    Scheduler,
    Service,
)
from pointsman.model.state import NodeState, NodeStates

__all__ = [
    "Address",
    "CidPolicy",
    "ConnectionIdRange",
    "DataPlaneChoice",
    "Endpoint",
    "Family",
    "Forward",
    "Gateway",
    "Listener",
    "Node",
    "NodeAddress",
    "NodeState",
    "NodeStates",
    "Protocol",
    "Scheduler",
    "Service",
]
