"""The tables of a filter, and of the guard that is a filter before a server on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pointsman.config.values import NAME, Allowed, Interfaces, Ports, Prefixes, table

PREFIX_FORMS = 'an array of prefixes: ["192.0.2.0/24", "2001:db8::/32"]'
Rate = Annotated[
    int,
    Field(description="Packets a second; 0 is any number.", ge=0, le=1_000_000_000),
    Allowed("0..1000000000"),
]


class BudgetsTable(BaseModel):
    """How many packets a second pass; 0 is any number."""

    model_config = table("Budgets")

    per_prefix: Rate = 0
    total: Rate = 0
    per_node: Rate = 0
    burst: Annotated[
        int,
        Field(description="How many seconds' worth may come at once.", ge=1, le=60),
        Allowed("seconds, 1..60"),
    ] = 2


class CidBudgetsTable(BaseModel):
    """The same for records with connection IDs, which have no budget in all."""

    model_config = table("Budgets of connection IDs")

    per_prefix: Rate = 0
    per_node: Rate = 0
    burst: Annotated[
        int,
        Field(description="How many seconds' worth may come at once.", ge=1, le=60),
        Allowed("seconds, 1..60"),
    ] = 2


class FilterTable(BaseModel):
    """What is dropped before anything else is done with it."""

    model_config = table("Filter")

    level: Annotated[
        Literal["header", "record"],
        Field(description="header: the first record's header; record: every record of the datagram."),
    ] = "header"
    mode: Annotated[
        Literal["monitor", "enforce"],
        Field(description="monitor: count and let pass; enforce: count and drop."),
    ] = "enforce"
    dtls13: Annotated[bool, Field(description="Whether DTLS 1.3 passes."), Allowed("true or false")] = False
    drop_source_ports: Annotated[
        Ports,
        Field(
            description='Source ports that are dropped; "reflectors" stands for those of reflected floods.'
        ),
        Allowed('an array of ports, port ranges and "reflectors": ["reflectors", 123, "6000-6010"]'),
    ] = []
    allow: Annotated[
        Prefixes,
        Field(description="Prefixes that no other reason but DTLS's own form is held against."),
        Allowed(PREFIX_FORMS),
    ] = []
    deny: Annotated[Prefixes, Field(description="Prefixes that are dropped."), Allowed(PREFIX_FORMS)] = []
    prefix4: Annotated[
        int,
        Field(description="Bits of an IPv4 source that have a budget of their own.", ge=8, le=32),
        Allowed("8..32"),
    ] = 24
    prefix6: Annotated[
        int,
        Field(description="Bits of an IPv6 source that have a budget of their own.", ge=16, le=128),
        Allowed("16..128"),
    ] = 56
    hello: Annotated[
        BudgetsTable | None,
        Field(description="Budgets of ClientHellos; one with a cookie counts a quarter."),
        Allowed("{ per_prefix = 50, total = 2000, per_node = 500, burst = 2 }"),
    ] = None
    cid: Annotated[
        CidBudgetsTable | None,
        Field(description="Budgets of records with connection IDs."),
        Allowed("{ per_prefix = 5000, per_node = 200000, burst = 2 }"),
    ] = None
    amplification: Annotated[
        int,
        Field(
            description="How many times the bytes that it sent an unproven address is answered; 0: any number.",
            ge=0,
            le=1000,
        ),
        Allowed("0..1000"),
    ] = 0


class GuardTable(BaseModel):
    """The filter before a DTLS server that runs on this machine itself."""

    model_config = table("Guard")

    name: Annotated[
        str,
        Field(description="The guard's name, unique in the file.", pattern=NAME, examples=["coaps"]),
        Allowed("1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"),
    ]
    interface: Annotated[
        Interfaces,
        Field(description="The interfaces that the server's packets arrive at."),
        Allowed('the name of a network interface, or an array of them: "eth0", ["eth0", "eth1"]'),
    ]
    ports: Annotated[
        Ports,
        Field(description="The server's ports."),
        Allowed('an array of ports and ranges: [5684, "6000-6010"]'),
    ]
    filter: Annotated[
        FilterTable, Field(description="The filter."), Allowed("[guard.filter], below its [[guard]]")
    ]
