"""Everything that a data plane's tables are compiled from."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointsman.model import Gateway, Node, NodeState, NodeStates, Service
from pointsman.plan.labels import Labels

ANSWER_SECONDS = 3
"""How much longer a leaving node's answers are translated than it is sent anything."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A node that the configuration names no more; handshakes under way are finished on it for ``seconds``."""

    service: str
    node: Node
    label: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Retired:
    """A label that the service's flows may still hold although its node, maybe another service's, is not its own."""

    service: str
    label: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the kernel and the nft library offer beyond the floor."""

    defragment_by_tproxy: bool = True


@dataclass(frozen=True, slots=True)
class ServiceInputs:
    """What one service's part depends on beside itself.

    ``states``, ``labels`` and ``shares`` are in the order of its nodes; without ``shares`` all are full.
    """

    states: tuple[NodeState, ...]
    labels: tuple[int, ...]
    hash_seed: int
    leaving: tuple[Leaving, ...]
    retired: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlaneInputs:
    """The same inputs compile to the same tables, byte for byte, on either data plane.

    ``interfaces`` are those of clients and nodes, by name: the XDP plane's programs are attached to them. From those
    that are ``clients_only`` nothing is taken for a node's.
    """

    gateway: Gateway
    states: NodeStates
    labels: Labels
    leaving: tuple[Leaving, ...] = ()
    retired: tuple[Retired, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
    interfaces: tuple[str, ...] = ()
    clients_only: tuple[str, ...] = ()

    def of(self, service: Service) -> ServiceInputs:
        return ServiceInputs(
            self.states.of_all(service),
            tuple(self.labels.of(node) for node in service.nodes),
            self.gateway.hash_seed,
            tuple(item for item in self.leaving if item.service == service.name),
            tuple(item.label for item in self.retired if item.service == service.name),
            self.states.shares_of(service),
        )
