"""A topology as the lines that ip, nft and sysctl are given. Pure, and the same lines every time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pointsman.lab.machines import Interface, Machine, Route
from pointsman.lab.topology import Topology, namespace
from pointsman.model.endpoint import Family

NAT_TABLE: Final = "pointsman_lab"
_PORTED: Final = "tcp, udp"
_FIRST_PORT: Final = 10_000  # beyond any machine's own ifindex

# A new namespace inherits IPv4 settings from the machine, where Docker may have turned forwarding on.
_PLAIN: Final = (
    "net.ipv4.ip_forward=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
)
_ANY_SOURCE: Final = (
    "net.ipv6.ip_nonlocal_bind=1",
)  # a local route is enough to bind for IPv4, and not for IPv6
_FORWARDING: Final = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
_QUIET: Final = ("net.ipv6.conf.default.router_solicitations=0",)  # fewer surprises in captures


@dataclass(frozen=True, slots=True)
class Inside:
    """What happens in one namespace: sysctls before its interfaces exist, the other two when they do."""

    namespace: str
    sysctls: tuple[str, ...]
    ip: tuple[str, ...]
    nft: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """To be done in this order: ``create``, every sysctl, ``wire``, then every ``ip`` and ``nft``.

    ``create`` and ``wire`` are for ``ip -batch`` outside the namespaces.
    """

    create: tuple[str, ...]
    wire: tuple[str, ...]
    inside: tuple[Inside, ...]


def building(topology: Topology) -> Script:
    return Script(
        create=tuple(f"netns add {each}" for each in topology.namespaces),
        wire=tuple(
            _cable(topology, number, *end) for number, end in enumerate(_plugs(topology), _FIRST_PORT)
        ),
        inside=(_switch(topology), *(_machine(topology, machine) for machine in topology.machines)),
    )


def tearing_down(namespaces: Iterable[str]) -> tuple[str, ...]:
    """For ``ip -force -batch``: a namespace takes its interfaces along."""
    return tuple(f"netns del {each}" for each in namespaces)


def nat_table(address: str, ports: tuple[int, int] | None = None) -> str:
    """The NAT rules of one family, replacing those there were, in one transaction.

    What comes from outside without a mapping is dropped silently, as NATs at home do. A late reply to a
    mapping that is gone would otherwise leave a conntrack entry, and keep its port from the next device.
    """
    family = "ip6" if ip_address(address).version == 6 else "ip"
    target = address
    if ports is not None:
        span = str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"
        target = f"[{address}]:{span}" if family == "ip6" else f"{address}:{span}"
    return "\n".join(
        (
            f"table {family} {NAT_TABLE}",
            f"delete table {family} {NAT_TABLE}",
            f"table {family} {NAT_TABLE} {{",
            "  chain mapping {",
            "    type nat hook postrouting priority srcnat; policy accept;",
            f'    oifname "wan0" meta l4proto {{ {_PORTED} }} snat to {target}',
            f'    oifname "wan0" snat to {address}',
            "  }",
            "  chain unasked_in {",
            "    type filter hook input priority filter; policy accept;",
            f'    iifname "wan0" meta l4proto {{ {_PORTED} }} ct state new drop',
            "  }",
            "  chain unasked_through {",
            "    type filter hook forward priority filter; policy accept;",
            '    iifname "wan0" ct state new drop',
            "  }",
            "}",
            "",
        )
    )


def port_name(machine: Machine, plug: Interface) -> str:
    """The switch's end of a cable."""
    return f"{machine.name}-{plug.name}"


def _plugs(topology: Topology) -> Iterable[tuple[Machine, Interface]]:
    return ((machine, plug) for machine in topology.machines for plug in machine.interfaces)


def _cable(topology: Topology, index: int, machine: Machine, plug: Interface) -> str:
    # Both ends are born where they belong, so no name can collide in the namespace the lab is built from.
    # A cable whose ends happen to have the same ifindex looks to the kernel like no cable; it then reports
    # the link up to a second late, IPv6 has no link-local address until then, and the first packets wait.
    near = f"name {plug.name} address {plug.mac} netns {namespace(topology.name, machine.name)}"
    far = f"name {port_name(machine, plug)} index {index} netns {namespace(topology.name, 'sw')}"
    return f"link add {far} type veth peer {near}"


def _switch(topology: Topology) -> Inside:
    bridges = (
        f"link add {segment} up type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        for segment in topology.segments
    )
    ports = (
        f"link set {port_name(machine, plug)} master {plug.segment} up" for machine, plug in _plugs(topology)
    )
    sysctls = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    return Inside(namespace(topology.name, "sw"), sysctls, (*bridges, *ports))


def _machine(topology: Topology, machine: Machine) -> Inside:
    lines = ["link set lo up"]
    for plug in machine.interfaces:
        for address in plug.addresses:
            lines.append(f"address add {address} dev {plug.name}{' nodad' if address.version == 6 else ''}")
        lines.append(f"link set {plug.name} up")
    lines.extend(_route(route) for route in machine.routes)
    sysctls: tuple[str, ...] = _PLAIN if machine.name == "gw" else _PLAIN + _QUIET
    sysctls += _ANY_SOURCE if any(route.local for route in machine.routes) else ()
    if machine.router:
        sysctls = (*sysctls[1:], *_FORWARDING)
    if not machine.nat:
        return Inside(namespace(topology.name, machine.name), sysctls, tuple(lines))
    number = int(machine.name.removeprefix("nat"))
    return Inside(
        namespace(topology.name, machine.name),
        (*sysctls[1:], *_FORWARDING),
        tuple(lines),
        "".join(nat_table(topology.external(number, family)[0]) for family in Family),
    )


def _route(route: Route) -> str:
    kind = "local " if route.local else ""
    anywhere = (
        "::/0" if route.family is Family.V6 else "0.0.0.0/0"
    )  # "default" would leave the family to a guess
    via = f" via {route.via}" if route.via else ""
    source = f" src {route.source}" if route.source else ""
    metric = f" metric {route.metric}" if route.metric is not None else ""
    return f"route add {kind}{route.prefix or anywhere}{via} dev {route.device}{source}{metric}"
