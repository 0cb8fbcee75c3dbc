"""A lab drawn with characters."""

from __future__ import annotations

from itertools import zip_longest

from pointsman.lab.topology import GATEWAY_WAN, VIP, Topology

_MOST_ROWS = 9


def picture(topology: Topology) -> str:
    """The lab as plain text, devices left and nodes right; what does not fit is counted."""
    left = _shortened([*(_behind(topology, k) for k in range(1, topology.nats + 1)), "client"])
    right = _shortened([f"n{i}" for i in range(1, topology.nodes + 1)])
    rows = max(len(left), len(right))
    width = max(map(len, left))
    middle = "-- wan0 [gw] lan0 --"
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
        f"  VIPs      {VIP[4]}, {VIP[6]} (routed to gw; silent until a configuration is applied)",
        f"  nodes     {_range(topology, 'n', topology.nodes)}",
        f"  client    {_both(topology, 'client')} (no NAT)",
    ]
    if topology.nats:
        external = topology.external(1, 4)
        lines.append(
            f"  nat1      {external[0]} to {external[-1]} outside, {_both(topology, 'nat1', 'in0')} inside"
        )
        lines.append(f"  devices   {_range(topology, 'dev', topology.nats * topology.devices_per_nat)}")
    return "\n".join(lines)


def _behind(topology: Topology, nat: int) -> str:
    last = nat * topology.devices_per_nat
    first = last - topology.devices_per_nat + 1
    return f"dev{first} -- nat{nat}" if first == last else f"dev{first}..dev{last} -- nat{nat}"


def _range(topology: Topology, role: str, count: int) -> str:
    first = f"{role}1 {_both(topology, f'{role}1')}"
    return first if count == 1 else f"{first} ... {role}{count} {_both(topology, f'{role}{count}')}"


def _both(topology: Topology, machine: str, interface: str | None = None) -> str:
    return f"{topology.address(machine, 4, interface)}, {topology.address(machine, 6, interface)}"


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= _MOST_ROWS:
        return names
    half = _MOST_ROWS // 2
    return [*names[:half], f"({len(names) - 2 * half} more)", *names[-half:]]


def _centred(names: list[str], rows: int) -> list[str]:
    above = (rows - len(names)) // 2
    return [""] * above + names + [""] * (rows - len(names) - above)
