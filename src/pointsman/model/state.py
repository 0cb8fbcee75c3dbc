"""What a node takes at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from pointsman.model.gateway import Service

FULL_SHARE = 100
"""Percent of its weight that a node takes unless it starts slowly."""


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


def _frozen_shares(shares: Mapping[tuple[str, str], int]) -> Mapping[tuple[str, str], int]:
    for (service, node), share in shares.items():
        if not 1 <= share <= FULL_SHARE:
            raise ValueError(f"the share of {service}/{node} is {share} %: 1..{FULL_SHARE}")
    return MappingProxyType({key: share for key, share in sorted(shares.items()) if share != FULL_SHARE})


@dataclass(frozen=True, slots=True)
class NodeStates:
    """The states that differ from ``up``, by (service name, node name).

    ``shares`` are the percentages of their weights that nodes take at the moment, where it is not all of it.
    """

    exceptions: Mapping[tuple[str, str], NodeState] = field(default_factory=lambda: MappingProxyType({}))
    shares: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "exceptions", _frozen(self.exceptions))
        object.__setattr__(self, "shares", _frozen_shares(self.shares))

    def of(self, service: str, node: str) -> NodeState:
        return self.exceptions.get((service, node), NodeState.UP)

    def of_all(self, service: Service) -> tuple[NodeState, ...]:
        """The states of all nodes of a service, in their order."""
        return tuple(self.of(service.name, node.name) for node in service.nodes)

    def with_state(self, service: str, node: str, state: NodeState) -> NodeStates:
        return replace(self, exceptions={**self.exceptions, (service, node): state})

    def share(self, service: str, node: str) -> int:
        """The percentage of its weight that the node takes."""
        return self.shares.get((service, node), FULL_SHARE)

    def shares_of(self, service: Service) -> tuple[int, ...]:
        """The shares of all nodes of a service, in their order."""
        return tuple(self.share(service.name, node.name) for node in service.nodes)

    def with_share(self, service: str, node: str, share: int) -> NodeStates:
        return replace(self, shares={**self.shares, (service, node): share})
