"""The tables of multihomed servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pointsman.config.values import INTERFACE, SERVICE_NAME, Addresses, Allowed, Ports, table

MARK_MASK = 0x00FF0000


class UplinkTable(BaseModel):
    """A way to the clients."""

    model_config = table("Uplink")

    interface: Annotated[
        str,
        Field(description="The uplink's interface.", pattern=INTERFACE, examples=["wan0"]),
        Allowed("the name of a network interface: 1..15 characters, none of them blank, / or :"),
    ]
    address: Annotated[
        Addresses,
        Field(
            description="The addresses or prefixes that clients ask it at; without it, those on the interface."
        ),
        Allowed('an address, a prefix, or an array of them: ["192.0.2.2", "2001:db8:a::/64"]'),
    ] = []
    gateway: Annotated[
        Addresses,
        Field(
            description="The next router of each family; without it, that of the interface's default route."
        ),
        Allowed('an address of each family at most: ["192.0.2.1", "fe80::1"]'),
    ] = []


class MultihomeTable(BaseModel):
    """A UDP server here that answers by the uplink, and from the address, that it was asked at."""

    model_config = table("Multihome")

    name: Annotated[
        str,
        Field(description="The server's name, unique in the file.", pattern=SERVICE_NAME, examples=["dns"]),
        Allowed("1..31 lower-case letters, digits or hyphens, the first a letter"),
    ]
    mode: Annotated[
        Literal["address", "socket"],
        Field(
            description="address: the server is bound to a private address; socket: to all, and known by its cgroup."
        ),
    ]
    ports: Annotated[
        Ports,
        Field(description="The server's UDP ports."),
        Allowed('an array of ports and ranges: [53, "6000-6010"]'),
    ]
    uplink: Annotated[
        list[UplinkTable],
        Field(description="The ways to its clients.", json_schema_extra={"minItems": 1}),
        Allowed("[[multihome.uplink]] in double brackets, one for each uplink"),
    ]
    address: Annotated[
        Addresses,
        Field(description="address: what the server is bound to, one of each family at most."),
        Allowed('a private address, or one of each family: ["10.255.0.53", "fd00:53::53"]'),
    ] = []
    mark_mask: Annotated[
        int,
        Field(
            description="address: the bits of packet and connection mark that tell the uplinks apart.",
            ge=1,
            le=0xFFFFFFFF,
        ),
        Allowed("neighbouring bits of 32, enough for all uplinks: 0x00ff0000"),
    ] = MARK_MASK
    cgroup: Annotated[
        str | None,
        Field(
            description="socket: the server's control group, below the root of cgroup2.",
            pattern=r"^/?[^/\x00-\x1f]+(/[^/\x00-\x1f]+)*$",
        ),
        Allowed('a path below the root of cgroup2: "system.slice/unbound.service"'),
    ] = None
    unit: Annotated[
        str | None,
        Field(
            description="socket: the server's systemd unit, instead of cgroup.",
            pattern=r"^[A-Za-z0-9:_.\\-]+((@[A-Za-z0-9:_.@\\-]+)?\.service|\.slice)$",
        ),
        Allowed('a service or slice of the system: "unbound.service", "dtls@1.service", "dns.slice"'),
    ] = None
