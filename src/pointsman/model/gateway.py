"""What the operator asked for: a gateway, its services, their listeners and nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pointsman.model.api import Api
from pointsman.model.endpoint import Address, Endpoint, Family, family_of
from pointsman.model.filter import Filter, Guard, PortRange
from pointsman.model.forwarding import Forwarding
from pointsman.model.health import Check, Passive, Require
from pointsman.model.multihome import Multihome


class DataPlaneChoice(StrEnum):
    AUTO = "auto"
    NFTABLES = "nftables"
    XDP = "xdp"


class Protocol(StrEnum):
    DTLS = "dtls"
    UDP = "udp"
    TCP = "tcp"


class Forward(StrEnum):
    """How packets reach their node: by its address, from the gateway's, by its link, or within another header."""

    NAT = "nat"
    FULL_NAT = "full-nat"
    DSR = "dsr"
    TUNNEL = "tunnel"

    @property
    def answers_pass_by(self) -> bool:
        """Whether nodes answer clients themselves, as the listener's address."""
        return self in (Forward.DSR, Forward.TUNNEL)


class Scheduler(StrEnum):
    MAGLEV = "maglev"
    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    LEAST_CONNECTIONS = "least-connections"


class Encapsulation(StrEnum):
    """The header that ``tunnel`` puts before packets: IPIP and IP6IP6 (RFC 2003, 2473), or GUE over UDP."""

    IPIP = "ipip"
    GUE = "gue"


class CidPolicy(StrEnum):
    """What becomes of a record whose connection ID names no node that takes it."""

    DROP = "drop"
    BALANCE = "balance"


class AllDown(StrEnum):
    """What holds when checks find every node of a service down: no node takes anything, or those last up stay up."""

    DROP = "drop"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class ConnectionIdRange:
    """Where a connection ID holds the node id: ``bits`` bits from bit ``offset`` on, most significant first.

    ``length`` is the connection ID's length in bytes where the site has one.
    """

    offset: int
    bits: int
    length: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The bytes that hold it: the first, and the one behind the last."""
        return self.offset // 8, (self.offset + self.bits + 7) // 8

    @property
    def shift(self) -> int:
        """Bits of the last of these bytes that follow it."""
        return self.span[1] * 8 - self.offset - self.bits


@dataclass(frozen=True, slots=True)
class Affinity:
    """New flows of one client network go to one node until it has sent nothing for ``timeout`` seconds."""

    prefix4: int = 32
    prefix6: int = 64
    timeout: int = 600


@dataclass(frozen=True, slots=True)
class Sources:
    """full-nat: what packets to nodes come from; the ports are the gateway's to hand out."""

    addresses: tuple[Address, ...]
    ports: PortRange

    def of(self, family: Family) -> tuple[Address, ...]:
        return tuple(address for address in self.addresses if family_of(address) is family)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """``port`` is GUE's. ``mss_clamp``: TCP peers are told of the segment size that fits the tunnel."""

    encapsulation: Encapsulation = Encapsulation.IPIP
    port: int = 6080
    mss_clamp: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """A service's VIP address and port; ``interface`` carries the address while the configuration is applied.

    ``offset`` is the place in a range of ports, by which a node's own port is shifted.
    """

    endpoint: Endpoint
    interface: str | None = None
    node_port: int | None = None
    offset: int = 0

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
    """A server behind a service; at most one address of each family.

    ``backup`` nodes take new flows where no other node does.
    """

    name: str
    addresses: tuple[NodeAddress, ...]
    id: int | None = None
    weight: int = 1
    backup: bool = False

    def endpoint(self, listener: Listener) -> Endpoint | None:
        """Where the node takes what arrives at ``listener``: on its own port, else node_port, else the same."""
        for own in self.addresses:
            if own.family is listener.family:
                own_port = own.port + listener.offset if own.port else None
                return Endpoint(own.address, own_port or listener.node_port or listener.endpoint.port)
        return None


@dataclass(frozen=True, slots=True)
class Service:
    """Times are in seconds; ``flow_table_size`` None is the data plane's default.

    ``linger`` is how long flows of a removed node are still followed (udp and tcp). ``sources`` are full-nat's,
    ``tunnel`` is tunnel's. ``slow_start`` is how long the share of a node grows that comes back.
    """

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
    flow_table_size: int | None = None
    affinity: Affinity | None = None
    linger: int = 0
    sources: Sources | None = None
    tunnel: Tunnel | None = None
    filter: Filter | None = None
    slow_start: int = 0
    all_down: AllDown = AllDown.DROP
    checks: tuple[Check, ...] = ()
    require: Require = Require.ALL
    passive: Passive = Passive.SHOW

    def listeners_of(self, family: Family) -> tuple[Listener, ...]:
        return tuple(listener for listener in self.listeners if listener.family is family)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class Gateway:
    """``hash_seed`` (32 bits) is the site's own: gateways of one site share it, others must not know it.

    ``interfaces`` are those that clients and nodes are on, empty where they are to be found out. ``flow_memory`` is
    how many flows the listeners share that have no ``flow_table_size`` of their own (xdp).
    """

    name: str
    services: tuple[Service, ...]
    hash_seed: int
    dataplane: DataPlaneChoice = DataPlaneChoice.AUTO
    interfaces: tuple[str, ...] = ()
    flow_memory: int = 1_000_000
    guards: tuple[Guard, ...] = ()
    forwarding: Forwarding | None = None
    multihomes: tuple[Multihome, ...] = ()
    api: Api = field(default_factory=Api)

    @property
    def guarded(self) -> tuple[str, ...]:
        """The interfaces that have guards."""
        return tuple(dict.fromkeys(name for guard in self.guards for name in guard.interfaces))

    def service(self, name: str) -> Service | None:
        return next((service for service in self.services if service.name == name), None)
