"""What on this machine stands in the way of filters and guards, as lines and whether they are fatal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pointsman.model import FilterLevel, Gateway
from pointsman.model.abilities import NFTABLES

Line = tuple[str, bool]


def filter_findings(
    gateway: Gateway,
    plane: str,
    links: Collection[str],
    masters: Mapping[str, tuple[str, str]],
    down: Collection[str],
) -> Iterator[Line]:
    """``links`` are the machine's interfaces, ``masters`` what they are enslaved to, as (name, kind)."""
    for guard in gateway.guards:
        for interface in guard.interfaces:
            label = f"guard {guard.name}: interface {interface}"
            master, kind = masters.get(interface, ("", ""))
            if interface not in links:
                known = ", ".join(name for name in sorted(links) if name != "lo")
                yield f"guard {guard.name}: there is no interface {interface}; one of {known}", True
            elif kind in ("bridge", "bond", "team"):
                takes = f"is a part of the {kind} {master}, which takes all that arrives; name {master}"
                yield f"{label} {takes}", True
            elif kind == "vrf" and plane == NFTABLES:
                yield (
                    f"{label} is in the VRF {master}, and what arrives is delivered as {master}'s; name {master}",
                    True,
                )
            elif interface in down:
                yield f"{label} is down; `ip link set {interface} up`", False
    if plane == NFTABLES:
        filters = [("service", service.name, service.filter) for service in gateway.services]
        filters += [("guard", guard.name, guard.filter) for guard in gateway.guards]
        for kind, name, own in filters:
            if own is not None and own.level is FilterLevel.RECORD:
                yield (
                    f'{kind} {name}: filter level = "record": nftables reads the first record of a datagram only, '
                    "and finds its length wrong from a sixteenth too much on; xdp reads all of it",
                    False,
                )
