"""The configuration file as a typed document: which keys there are and what each may hold on its own.

What concerns several keys at once (an id in its range, an address given twice) is checked by ``resolve``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic import model_validator as validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from pointsman.config.values import (
    CALIFORNIUM,
    INTERFACE,
    LONGEST_CID_BITS,
    NAME,
    SEED_FORMS,
    SERVICE_NAME,
    Allowed,
    Duration,
    NodeAddresses,
    Policy,
    Port,
    Seed,
)


def table(title: str) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, frozen=True, title=title)


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


class ListenerTable(BaseModel):
    """An address and port that clients send to (VIP); a string is an address alone."""

    model_config = table("Listener")

    address: Annotated[
        str,
        Field(
            description="Address and port: 192.0.2.10:5684 or [2001:db8::10]:5684.",
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
        Literal["dtls", "udp"], Field(description="dtls: by connection ID and handshake; udp: by flow.")
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
        Literal["nat"],
        Field(description="nat: the destination is rewritten, and replies come back through the gateway."),
    ] = "nat"
    scheduler: Annotated[Literal["maglev"], Field(description="How the node of a new flow is chosen.")] = (
        "maglev"
    )
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
        int,
        Field(description="How many flows each listener remembers.", ge=1, le=1 << 24),
        Allowed("1..16777216"),
    ] = 65536


class GatewayTable(BaseModel):
    """What concerns the gateway as a whole."""

    model_config = table("Gateway")

    name: Annotated[
        str,
        Field(description="The gateway's name.", pattern=NAME, examples=["edge-1"]),
        Allowed("1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"),
    ]
    dataplane: Annotated[
        Literal["auto", "nftables"],
        Field(description="What carries the packets; auto takes the best that is there."),
    ] = "auto"
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
        Field(description="The services.", json_schema_extra={"minItems": 1}),
        Allowed("[[service]] in double brackets, one for each service"),
    ]
