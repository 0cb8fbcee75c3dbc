"""How checks reach a VIP at a node that answers by itself, as an nftables table.

A VIP is local on the gateway, so a socket cannot be connected to it at a node. It is connected to the node's address
instead, from a port of its own; on the link's way out, behind the choice of the next hop, the destination becomes the
VIP, and on the way in the source becomes the node's address again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pointsman.health.targets import Target, source_of
from pointsman.model import Address
from pointsman.plan.node_setup import LOOPBACK

_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(frozen=True, slots=True)
class Lane:
    """A table's name, and the ports that checks by it come from: those of others, and of sockets, are others.

    ``priority`` is that of the filters that put what is asked into tunnels.
    """

    table: str
    first: int
    last: int
    priority: int


ENGINE = Lane("pointsman_health", 61000, 63499, 0x706E)
PROBE = Lane("pointsman_probe", 63500, 65535, 0x706F)
"""Above the kernel's own choice of ports, which ends at 60999 unless somebody has changed it."""


@dataclass(frozen=True, slots=True)
class Way:
    """The link that a target is asked by, and those that its answer may come in by."""

    out: str
    back: frozenset[str]


def way_to(
    target: Target, route: tuple[str, Address | None] | None, carriers: Mapping[Address, str]
) -> Way | None:
    """The way to a target; None where none leads there.

    ``route`` is the link to its address, and the address of ours that it is asked from unless the check says one;
    ``carriers`` are the links of our addresses: nodes may answer by another than they are asked by.
    """
    out = target.check.interface or (route[0] if route is not None else None)
    if out is None:
        return None
    source = source_of(target) or (route[1] if route is not None else None)
    carrier = carriers.get(source, out) if source is not None else out
    return Way(out, frozenset({out, carrier} - {LOOPBACK}))


def ports(lane: Lane, targets: Iterable[Target], before: Mapping[Target, int]) -> dict[Target, int]:
    """A port for each target that has a VIP; who had one keeps it, and who comes too late has none."""
    wanted = [target for target in targets if target.vip is not None]
    kept = {target: before[target] for target in wanted if target in before}
    taken = set(kept.values())
    free = (port for port in range(lane.first, lane.last + 1) if port not in taken)
    given = zip((target for target in wanted if target not in kept), free, strict=False)
    return {**kept, **dict(given)}


def table(lane: Lane, by_port: Mapping[Target, int], ways: Mapping[Target, Way]) -> str:
    """The transaction that puts the table in place, or takes it away where nothing needs it."""
    lines = [f"table netdev {lane.table}", f"delete table netdev {lane.table}"]
    used = [ways[target] for target in by_port if target in ways]
    if not used:
        return "\n".join([*lines, ""])
    lines.append(f"table netdev {lane.table} {{")
    for family in (4, 6):
        rows = [
            (target.address, port, target.vip.address)
            for target, port in by_port.items()
            if target.vip is not None and target in ways and target.address.version == family
        ]
        own = [f"{node} . {port}" for node, port, _ in rows]
        lines += _named(f"set own{family}", f"{_TYPES[family]} . inet_service", own)
        lines += _map(f"out{family}", family, [f"{node} . {port} : {vip}" for node, port, vip in rows])
        lines += _map(f"in{family}", family, [f"{vip} . {port} : {node}" for node, port, vip in rows])
    for number, device in enumerate(sorted({way.out for way in used})):
        lines += _chain(f"out_{number}", "egress", device, "daddr", "sport", "out")
    for number, device in enumerate(sorted(frozenset().union(*(way.back for way in used)))):
        lines += _chain(f"in_{number}", "ingress", device, "saddr", "dport", "in")
    return "\n".join([*lines, "}", ""])


def _map(name: str, family: int, elements: list[str]) -> list[str]:
    return _named(f"map {name}", f"{_TYPES[family]} . inet_service : {_TYPES[family]}", elements)


def _named(name: str, kind: str, elements: list[str]) -> list[str]:
    held = [f"    elements = {{ {', '.join(elements)} }}"] if elements else []
    return [f"  {name} {{", f"    type {kind}", *held, "  }"]


def _chain(name: str, hook: str, device: str, address: str, port: str, way: str) -> list[str]:
    # What a node sends from its own address, clients would not take for an answer either.
    wrong = [
        f"    meta l4proto {{ tcp, udp }} {ip} saddr . th dport @own{family} drop"
        for family, ip in ((4, "ip"), (6, "ip6"))
    ]
    return [
        f"  chain {name} {{",
        f'    type filter hook {hook} device "{device}" priority 0; policy accept;',
        *(wrong if hook == "ingress" else []),
        *(
            f"    meta l4proto {{ tcp, udp }} {ip} {address} set {ip} {address} . th {port} map @{way}{family}"
            for family, ip in ((4, "ip"), (6, "ip6"))
        ),
        "  }",
    ]
