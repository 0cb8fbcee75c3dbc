"""Everything that a data plane's tables are compiled from."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointsman.model import Gateway, Node, NodeStates
from pointsman.plan.labels import Labels


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
class PlaneInputs:
    """The same inputs compile to the same tables, byte for byte, on either data plane."""

    gateway: Gateway
    states: NodeStates
    labels: Labels
    leaving: tuple[Leaving, ...] = ()
    retired: tuple[Retired, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
