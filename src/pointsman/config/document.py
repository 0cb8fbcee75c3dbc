"""The configuration file as a typed document: which keys there are and what each may hold on its own.

What concerns several keys at once (an id in its range, an address given twice) is checked by ``resolve``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic import model_validator as validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from pointsman.config.api_tables import ApiTable
from pointsman.config.check_tables import CheckTable
from pointsman.config.filter_tables import FilterTable, GuardTable
from pointsman.config.forwarding_tables import ForwardingTable
from pointsman.config.multihome_tables import MultihomeTable
from pointsman.config.values import (
    CALIFORNIUM,
    INTERFACE,
    LONGEST_CID_BITS,
    NAME,
    SEED_FORMS,
    SERVICE_NAME,
    Addresses,
    Allowed,
    Duration,
    DurationOrNone,
    NodeAddresses,
    Policy,
    Port,
    Seed,
    table,
)


class ConnectionIdTable(BaseModel):
    """Where a DTLS connection ID holds the node id; "californium" stands for offset 0, bits 8."""

    model_config = table("Connection ID")

    offset: Annotated[
        int,
        Field(
            description="The first bit of the node id, counted from the start of the connection ID.",
            ge=0,
            le=LONGEST_CID_BITS - 1,
        ),
        Allowed("bits from the start, 0..2039"),
    ]
    bits: Annotated[
        int,
        Field(description="How many bits the node id has, most significant first.", ge=1, le=32),
        Allowed("1..32"),
    ]
    length: Annotated[
        int | None,
        Field(
            description="The length of every connection ID in bytes, where the site has one length.",
            ge=1,
            le=255,
        ),
        Allowed("bytes, 1..255"),
    ] = None

    @validator(mode="before")
    @classmethod
    def _scheme(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "californium":
            raise PydanticCustomError("unknown_scheme", "is unknown")
        return CALIFORNIUM if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": ["californium"], "type": "string"}, handler(core)]}


class AffinityTable(BaseModel):
    """Keeps new flows of one client network on one node; "client-address" stands for the defaults."""

    model_config = table("Affinity")

    ip4: Annotated[
        int, Field(description="Bits of an IPv4 client's address that count.", ge=8, le=32), Allowed("8..32")
    ] = 32
    ip6: Annotated[
        int,
        Field(description="Bits of an IPv6 client's address that count.", ge=16, le=128),
        Allowed("16..128"),
    ] = 64
    timeout: Annotated[
        Duration,
        Field(
            description="How long it is kept after the network's last packet.",
            json_schema_extra={"default": "10m"},
        ),
    ] = 600

    @validator(mode="before")
    @classmethod
    def _by_client(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "client-address":
            raise PydanticCustomError("unknown_scheme", "is unknown")
        return {} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": ["client-address"], "type": "string"}, handler(core)]}


class ListenerTable(BaseModel):
    """An address and port that clients send to (VIP); a string is an address alone."""

    model_config = table("Listener")

    address: Annotated[
        str,
        Field(
            description="Address and port: 192.0.2.10:5684, [2001:db8::10]:5684; udp and tcp: 192.0.2.10:8000-8009.",
            examples=["192.0.2.10:5684", "[2001:db8::10]:5684"],
        ),
        Allowed('an address with its port: "192.0.2.10:5684", "[2001:db8::10]:5684"'),
    ]
    interface: Annotated[
        str | None,
        Field(
            description="The interface that carries the address while the configuration is applied.",
            pattern=INTERFACE,
        ),
        Allowed("the name of a network interface: 1..15 characters, none of them blank, / or :"),
    ] = None
    node_port: Annotated[
        Port | None,
        Field(description="The port of nodes that have none of their own; without it, the listener's port."),
        Allowed("a port, 1..65535"),
    ] = None

    @validator(mode="before")
    @classmethod
    def _address_alone(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "anyOf": [
                {"type": "string", "examples": ["192.0.2.10:5684", "[2001:db8::10]:5684"]},
                handler(core),
            ]
        }


class NodeTable(BaseModel):
    """A server behind the service."""

    model_config = table("Node")

    name: Annotated[
        str,
        Field(description="The node's name, unique in its service.", pattern=NAME, examples=["n1"]),
        Allowed("1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"),
    ]
    address: Annotated[
        NodeAddresses,
        Field(
            description="Where the node is: at most one address of each family, each with or without a port."
        ),
    ]
    id: Annotated[
        int | None,
        Field(
            description="What the node puts into its connection IDs; required where connection_id is set.",
            json_schema_extra={"minimum": 0, "maximum": 0xFFFFFFFF},
        ),
        Allowed("an integer that the bits of connection_id can hold"),
    ] = None
    weight: Annotated[
        int,
        Field(description="The node's share of new flows; 0 takes none.", ge=0, le=100),
        Allowed("0..100"),
    ] = 1
    backup: Annotated[
        bool, Field(description="Takes new flows only where no other node does."), Allowed("true or false")
    ] = False


class ServiceTable(BaseModel):
    """What arrives at the listeners and is spread over the nodes."""

    model_config = table("Service")

    name: Annotated[
        str,
        Field(
            description="The service's name, unique in the file.", pattern=SERVICE_NAME, examples=["coaps"]
        ),
        Allowed("1..31 lower-case letters, digits or hyphens, the first a letter"),
    ]
    protocol: Annotated[
        Literal["dtls", "udp", "tcp"],
        Field(description="dtls: by connection ID and handshake; udp, tcp: by flow."),
    ]
    listen: Annotated[
        list[ListenerTable],
        Field(description="The addresses and ports that clients send to.", json_schema_extra={"minItems": 1}),
        Allowed('an array of addresses: listen = ["192.0.2.10:5684", "[2001:db8::10]:5684"]'),
    ]
    node: Annotated[
        list[NodeTable],
        Field(description="The servers.", json_schema_extra={"minItems": 1}),
        Allowed("[[service.node]] in double brackets, one for each server"),
    ]
    forward: Annotated[
        Literal["nat", "full-nat", "dsr", "tunnel"],
        Field(
            description="nat: the destination is rewritten, and replies come back through the gateway; full-nat: the "
            "source too; dsr, tunnel: nodes answer by themselves."
        ),
    ] = "nat"
    source: Annotated[
        Addresses,
        Field(description="full-nat, tunnel: the gateway's addresses that packets to nodes come from."),
        Allowed('an address of the gateway, or an array of them: ["10.0.0.1", "fd00::1"]'),
    ] = []
    source_ports: Annotated[
        str,
        Field(description="full-nat: the ports of these addresses that are the gateway's to hand out."),
        Allowed('a range of ports, which no socket of the gateway uses: "1024-65535"'),
    ] = "1024-65535"
    encapsulation: Annotated[
        Literal["ipip", "gue"],
        Field(description="tunnel: IPIP and IP6IP6, or GUE over UDP."),
    ] = "ipip"
    gue_port: Annotated[Port, Field(description="tunnel: the nodes' UDP port for GUE.")] = 6080
    mss_clamp: Annotated[
        bool,
        Field(description="tunnel: clients are told of the TCP segment size that fits."),
        Allowed("true or false"),
    ] = False
    scheduler: Annotated[
        Literal["maglev", "random", "round-robin", "least-connections"],
        Field(description="How the node of a new flow is chosen."),
    ] = "maglev"
    affinity: Annotated[
        AffinityTable | None,
        Field(description="Keeps new flows of a client's network on one node (udp, tcp)."),
        Allowed('"client-address" or { ip4 = 32, ip6 = 64, timeout = "10m" }'),
    ] = None
    linger: Annotated[
        DurationOrNone,
        Field(description="How long flows of a removed node are still followed (udp, tcp); 0 closes them."),
    ] = 0
    filter: Annotated[
        FilterTable | None,
        Field(description="What is dropped before anything else is done with it (dtls)."),
        Allowed("[service.filter], below its [[service]]"),
    ] = None
    connection_id: Annotated[
        ConnectionIdTable | None,
        Field(
            description="Where connection IDs hold the node id (dtls only); without it, DTLS goes by flow."
        ),
        Allowed('"californium" or { offset = 0, bits = 8, length = 6 }'),
    ] = None
    cid_unknown: Annotated[
        Policy,
        Field(description="What becomes of a record whose connection ID names no node of the service."),
    ] = "drop"
    cid_node_down: Annotated[
        Policy, Field(description="What becomes of a record whose connection ID names a node that is down.")
    ] = "drop"
    handshake_timeout: Annotated[
        Duration,
        Field(
            description="How long a handshake stays on its node (dtls only).",
            json_schema_extra={"default": "120s"},
        ),
    ] = 120
    flow_timeout: Annotated[
        Duration,
        Field(
            description="How long a flow without connection ID is remembered.",
            json_schema_extra={"default": "5m"},
        ),
    ] = 300
    maglev_table_size: Annotated[
        int | None,
        Field(
            description="Entries of the scheduler's table, a prime; without it, one that fits the nodes.",
            json_schema_extra={"minimum": 251, "maximum": 1000003},
        ),
        Allowed("a prime, 251..1000003, at least 100 for each node"),
    ] = None
    flow_table_size: Annotated[
        int | None,
        Field(
            description="How many flows each listener remembers; without it 65536 (nftables), or all that fit the "
            "gateway's flow_memory (xdp).",
            ge=1,
            le=1 << 24,
        ),
        Allowed("1..16777216"),
    ] = None
    slow_start: Annotated[
        DurationOrNone,
        Field(description="How long the share of a node grows that comes back; 0: it has all of it at once."),
    ] = 0
    all_down: Annotated[
        Literal["drop", "keep"],
        Field(
            description="When checks find every node down: drop, or keep those up that were last found up."
        ),
    ] = "drop"
    check: Annotated[
        list[CheckTable],
        Field(description="How it is found out whether nodes work."),
        Allowed('[[service.check]] in double brackets, with type = "tcp"'),
    ] = []
    require: Annotated[
        Literal["all", "any"],
        Field(description="Whether a node must pass all of the checks, or any of them."),
    ] = "all"
    passive: Annotated[
        Literal["show", "count", "off"],
        Field(
            description="A node that is sent much and answers nothing: show that, count it as a failing check, or do "
            "not look."
        ),
    ] = "show"


class GatewayTable(BaseModel):
    """What concerns the gateway as a whole."""

    model_config = table("Gateway")

    name: Annotated[
        str,
        Field(description="The gateway's name.", pattern=NAME, examples=["edge-1"]),
        Allowed("1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"),
    ]
    dataplane: Annotated[
        Literal["auto", "nftables", "xdp"],
        Field(description="What carries the packets; auto takes the best that is there."),
    ] = "auto"
    interfaces: Annotated[
        list[Annotated[str, Field(pattern=INTERFACE)]],
        Field(
            description="The interfaces of clients and nodes (xdp); without it, as listeners and routes say."
        ),
        Allowed('an array of interface names: interfaces = ["wan0", "lan0"]'),
    ] = []
    flow_memory: Annotated[
        int,
        Field(
            description="How many flows the listeners share that have no flow_table_size (xdp).",
            ge=8,
            le=1 << 26,
        ),
        Allowed("8..67108864"),
    ] = 1_000_000
    hash_seed: Annotated[
        Seed | None,
        Allowed(SEED_FORMS),
        Field(description="The site's secret, 32 bits, the same on all its gateways."),
    ] = None


class Document(BaseModel):
    """The file that `pointsman check`, `plan` and `apply` read."""

    model_config = table("Pointsman gateway")

    gateway: Annotated[
        GatewayTable,
        Field(description="The gateway."),
        Allowed('[gateway] in single brackets, with name = "edge-1"'),
    ]
    service: Annotated[
        list[ServiceTable],
        Field(description="The services."),
        Allowed("[[service]] in double brackets, one for each service"),
    ] = []
    guard: Annotated[
        list[GuardTable],
        Field(description="Filters before servers on this machine itself."),
        Allowed("[[guard]] in double brackets, one for each guard"),
    ] = []
    forwarding: Annotated[
        ForwardingTable | None,
        Field(description="What the gateway forwards beside the services' packets."),
        Allowed('[forwarding] in single brackets, with policy = "drop"'),
    ] = None
    multihome: Annotated[
        list[MultihomeTable],
        Field(description="UDP servers here that answer by the uplink they were asked at."),
        Allowed("[[multihome]] in double brackets, one for each server"),
    ] = []
    api: Annotated[
        ApiTable | None,
        Field(description="Where a running daemon is asked, and by whom."),
        Allowed('[api] in single brackets, with listen = "127.0.0.1:9443"'),
    ] = None
