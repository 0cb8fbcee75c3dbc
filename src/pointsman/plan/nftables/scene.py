"""What the tables of one service are made from, and what follows from it for its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pointsman.model import Forward, Node, Service
from pointsman.plan.inputs import ServiceInputs
from pointsman.plan.members import members
from pointsman.plan.nftables.names import transport_of
from pointsman.plan.nftables.pick import Pick, pick_of


@dataclass(frozen=True)
class ServiceScene:
    """A service, and what its part of the table depends on beside it."""

    service: Service
    own: ServiceInputs

    @property
    def flow_seed(self) -> int:
        """Another seed than the scheduler's, or colliding clients would be those of one slot."""
        return self.own.hash_seed ^ 0x9E3779B9

    @property
    def transport(self) -> str:
        return transport_of(self.service)

    @property
    def tracked(self) -> bool:
        """Whether connection tracking is to rewrite the source, and so must see the packets."""
        return self.service.forward is Forward.FULL_NAT

    @cached_property
    def pick(self) -> Pick | None:
        return pick_of(self.service, self.own.states, self.own.shares, self.own.labels, self.own.hash_seed)

    def without_new(self) -> tuple[int, ...]:
        """Labels that no affinity is followed to: of nodes that the scheduler would not pick, leaving ones too."""
        taking = {name for name, _ in members(self.service, self.own.states)}
        own = tuple(label for label, node in self.labelled() if node.name not in taking)
        return own + tuple(item.label for item in self.own.leaving) + self.own.retired

    def labelled(self) -> list[tuple[int, Node]]:
        """The nodes that the configuration names, with their labels."""
        return list(zip(self.own.labels, self.service.nodes, strict=True))

    def labelled_with_leaving(self) -> list[tuple[int, Node]]:
        return self.labelled() + [(leaving.label, leaving.node) for leaving in self.own.leaving]

    def refusing_new(self) -> tuple[int, ...]:
        """Labels of the nodes that take no new flows."""
        pairs = zip(self.own.labels, self.own.states, strict=True)
        return tuple(label for label, state in pairs if not state.takes_new_flows)

    def refusing_all(self) -> tuple[int, ...]:
        """Labels that are not followed: of nodes that take nothing, and of nodes that are the service's no more."""
        pairs = zip(self.own.labels, self.own.states, strict=True)
        return tuple(label for label, state in pairs if not state.takes_named_packets) + self.own.retired

    def down_ids(self) -> list[int]:
        pairs = zip(self.service.nodes, self.own.states, strict=True)
        return [node.id for node, state in pairs if node.id is not None and not state.takes_named_packets]
