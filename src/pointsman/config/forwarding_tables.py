"""The tables of the forwarding policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from pointsman.config.filter_tables import PREFIX_FORMS
from pointsman.config.values import INTERFACE, Allowed, Ports, Prefixes, table


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


_OneOrMore = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
SomePrefixes = Annotated[Prefixes, BeforeValidator(_several), Allowed(PREFIX_FORMS), _OneOrMore]
SomeInterfaces = Annotated[
    list[Annotated[str, Field(pattern=INTERFACE)]],
    BeforeValidator(_several),
    Allowed('the name of a network interface, or an array of them: "lan0", ["lan0", "lan1"]'),
    _OneOrMore,
]


class AllowTable(BaseModel):
    """Connections that are forwarded beside the services'; what is left out is any."""

    model_config = table("Allow")

    from_: Annotated[
        SomePrefixes, Field(alias="from", description="Prefixes that connections are opened from.")
    ] = []
    to: Annotated[SomePrefixes, Field(description="Prefixes that they are opened to.")] = []
    protocol: Annotated[
        Literal["any", "tcp", "udp", "icmp"], Field(description="icmp is ICMPv6 as well, by family.")
    ] = "any"
    ports: Annotated[
        Ports,
        Field(description="Ports that are connected to (tcp, udp)."),
        Allowed('an array of ports and ranges: [443, "8000-8010"]'),
    ] = []
    in_interface: Annotated[
        SomeInterfaces, Field(description="The interfaces that the first packet arrives at.")
    ] = []
    out_interface: Annotated[
        SomeInterfaces, Field(description="The interfaces that the first packet leaves by.")
    ] = []
    both_ways: Annotated[
        bool,
        Field(description="Connections may be opened from the other end as well."),
        Allowed("true or false"),
    ] = False


class ForwardingTable(BaseModel):
    """What the gateway forwards beside the services' packets."""

    model_config = table("Forwarding")

    policy: Annotated[
        Literal["accept", "drop"],
        Field(
            description="drop: only the services' packets and what is allowed; accept: all, as without the table."
        ),
    ]
    interfaces: Annotated[
        list[Annotated[str, Field(pattern=INTERFACE)]],
        Field(description="The policy is for what arrives at one of these interfaces or leaves by one."),
        Allowed('an array of interface names: interfaces = ["wan0", "lan0"]'),
    ] = []
    allow: Annotated[
        list[AllowTable],
        Field(description="What is forwarded beside the services' packets."),
        Allowed("[[forwarding.allow]] in double brackets, one for each rule"),
    ] = []
