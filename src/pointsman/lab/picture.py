"""A lab drawn with characters."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from pointsman.lab.topology import GATEWAY_WAN, VIP, Topology

_MOST_ROWS = 9


def picture(topology: Topology, vips: Iterable[str] | None = None) -> str:
    """The lab as plain text, devices left and nodes right; what does not fit is counted.

    ``vips`` are those of the configuration that is applied in it, None where none is.
    """
    if topology.worlds:
        return _uplinks(topology)
    left = _shortened([*(_behind(topology, k) for k in range(1, topology.nats + 1)), "client"])
    right = _shortened([f"n{i}" for i in range(1, topology.nodes + 1)])
    rows = max(len(left), len(right))
    width = max(map(len, left))
    middle = "-- wan0 [gw] lan0 -- r1 --" if topology.router else "-- wan0 [gw] lan0 --"
    lines = []
    for row, (west, east) in enumerate(
        zip_longest(_centred(left, rows), _centred(right, rows), fillvalue="")
    ):
        between = middle if row == rows // 2 else " " * len(middle)
        dashes = f"{west:>{width}} --+" if west else f"{'':{width}}   |"
        lines.append(f"  {dashes}{between}{'+-- ' + east if east else '|'}".rstrip())
    wan4, wan6 = (address.partition("/")[0] for address in GATEWAY_WAN)
    lines += [
        "",
        f"  gateway   wan0 {wan4}, {wan6}   lan0 {_both(topology, 'gw', 'lan0')}",
        *([f"  VIPs      {shown}"] if (shown := _vips(vips)) else []),
        f"  nodes     {_range(topology, 'n', topology.nodes)}",
        *([f"  answers   nodes' eth1 on wan: n1 {_both(topology, 'n1', 'eth1')}"] if topology.direct else []),
        *([f"  router    r1 {_both(topology, 'r1')}"] if topology.router else []),
        f"  client    {_both(topology, 'client')} (no NAT)",
    ]
    if topology.nats:
        external = topology.external(1, 4)
        lines.append(
            f"  nat1      {external[0]} to {external[-1]} outside, {_both(topology, 'nat1', 'in0')} inside"
        )
        lines.append(f"  devices   {_range(topology, 'dev', topology.nats * topology.devices_per_nat)}")
    return "\n".join(lines)


def _uplinks(topology: Topology) -> str:
    """The machine gw, and what is beyond each of its uplinks."""
    plugs = topology.machine("gw").interfaces
    width = max(len(plug.name) for plug in plugs)
    drawn = [
        f"  {'[gw]' if number == 1 else '    '} {plug.name:>{width}} -- client{number}"
        for number, plug in enumerate(plugs, 1)
    ]
    listed = [
        f"  {plug.name:<{width}}   gw {_both(topology, 'gw', plug.name)}   "
        f"client{number} {_both(topology, f'client{number}')}"
        for number, plug in enumerate(plugs, 1)
    ]
    return "\n".join([*drawn, "", *listed])


def _vips(applied: Iterable[str] | None) -> str:
    """Those that answer now, else those that the wan segment routes to the gateway."""
    if applied is not None:
        return ", ".join(dict.fromkeys(applied))
    return f"{VIP[4]}, {VIP[6]} (routed to gw; silent until a configuration is applied)"


def _behind(topology: Topology, nat: int) -> str:
    last = nat * topology.devices_per_nat
    first = last - topology.devices_per_nat + 1
    return f"dev{first} -- nat{nat}" if first == last else f"dev{first}..dev{last} -- nat{nat}"


def _range(topology: Topology, role: str, count: int) -> str:
    first = f"{role}1 {_both(topology, f'{role}1')}"
    return first if count == 1 else f"{first} ... {role}{count} {_both(topology, f'{role}{count}')}"


def _both(topology: Topology, machine: str, interface: str | None = None) -> str:
    of = topology.machine(machine)
    plug = of.interface(interface) if interface else of.interfaces[0]
    first = {own.version: str(own.ip) for own in reversed(plug.addresses)}
    return ", ".join(first[version] for version in sorted(first))


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= _MOST_ROWS:
        return names
    half = _MOST_ROWS // 2
    return [*names[:half], f"({len(names) - 2 * half} more)", *names[-half:]]


def _centred(names: list[str], rows: int) -> list[str]:
    above = (rows - len(names)) // 2
    return [""] * above + names + [""] * (rows - len(names) - above)
