"""What the operator asked for: a gateway, its services, their listeners and nodes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pointsman.model.endpoint import Address, Endpoint, Family, family_of


class DataPlaneChoice(StrEnum):
    AUTO = "auto"
    NFTABLES = "nftables"


class Protocol(StrEnum):
    DTLS = "dtls"
    UDP = "udp"


class Forward(StrEnum):
    NAT = "nat"


class Scheduler(StrEnum):
    MAGLEV = "maglev"


class CidPolicy(StrEnum):
    """What becomes of a record whose connection ID names no node that takes it."""

    DROP = "drop"
    BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class ConnectionIdRange:
    """Where a connection ID holds the node id: ``bits`` bits from bit ``offset`` on, most significant first.

    ``length`` is the connection ID's length in bytes where the site has one.
    """

    offset: int
    bits: int
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """A service's VIP address and port; ``interface`` carries the address while the configuration is applied."""

    endpoint: Endpoint
    interface: str | None = None
    node_port: int | None = None

    @property
    def family(self) -> Family:
        return self.endpoint.family


@dataclass(frozen=True, slots=True)
class NodeAddress:
    address: Address
    port: int | None = None

    @property
    def family(self) -> Family:
        return family_of(self.address)


@dataclass(frozen=True, slots=True)
class Node:
    """A server behind a service; at most one address of each family."""

    name: str
    addresses: tuple[NodeAddress, ...]
    id: int | None = None
    weight: int = 1

    def endpoint(self, listener: Listener) -> Endpoint | None:
        """Where the node takes what arrives at ``listener``: on its own port, else node_port, else the same."""
        for own in self.addresses:
            if own.family is listener.family:
                return Endpoint(own.address, own.port or listener.node_port or listener.endpoint.port)
        return None


@dataclass(frozen=True, slots=True)
class Service:
    """Times are in seconds."""

    name: str
    protocol: Protocol
    listeners: tuple[Listener, ...]
    nodes: tuple[Node, ...]
    forward: Forward = Forward.NAT
    scheduler: Scheduler = Scheduler.MAGLEV
    connection_id: ConnectionIdRange | None = None
    cid_unknown: CidPolicy = CidPolicy.DROP
    cid_node_down: CidPolicy = CidPolicy.DROP
    handshake_timeout: int = 120
    flow_timeout: int = 300
    maglev_table_size: int | None = None
    flow_table_size: int = 65536

    def listeners_of(self, family: Family) -> tuple[Listener, ...]:
        return tuple(listener for listener in self.listeners if listener.family is family)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class Gateway:
    """``hash_seed`` (32 bits) is the site's own: gateways of one site share it, others must not know it."""

    name: str
    services: tuple[Service, ...]
    hash_seed: int
    dataplane: DataPlaneChoice = DataPlaneChoice.AUTO

    def service(self, name: str) -> Service | None:
        return next((service for service in self.services if service.name == name), None)
