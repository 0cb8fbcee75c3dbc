"""What a node takes at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pointsman.model.gateway import Service


class NodeState(StrEnum):
    """The states of a node; see docs/ARCHITECTURE.md, "Node states"."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"
    DISABLED = "disabled"

    @property
    def takes_new_flows(self) -> bool:
        return self is NodeState.UP

    @property
    def takes_named_packets(self) -> bool:
        """Whether records that name the node, and flows that it is remembered for, still go to it."""
        return self in (NodeState.UP, NodeState.DRAINING)


def _frozen(states: Mapping[tuple[str, str], NodeState]) -> Mapping[tuple[str, str], NodeState]:
    return MappingProxyType(
        {key: state for key, state in sorted(states.items()) if state is not NodeState.UP}
    )


@dataclass(frozen=True, slots=True)
class NodeStates:
    """The states that differ from ``up``, by (service name, node name)."""

    exceptions: Mapping[tuple[str, str], NodeState] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "exceptions", _frozen(self.exceptions))

    def of(self, service: str, node: str) -> NodeState:
        return self.exceptions.get((service, node), NodeState.UP)

    def of_all(self, service: Service) -> tuple[NodeState, ...]:
        """The states of all nodes of a service, in their order."""
        return tuple(self.of(service.name, node.name) for node in service.nodes)

    def with_state(self, service: str, node: str, state: NodeState) -> NodeStates:
        return NodeStates({**self.exceptions, (service, node): state})
