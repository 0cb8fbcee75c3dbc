"""Real TCP through the balancers: wrk, nginx, and what a request and a new connection cost at the gateway."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.contenders import Able, Contender, Ipvs, Recipe
from bench.haproxy import Haproxy
from bench.rig import Site
from bench.stacks import Forwarded, Network, installed
from bench.traffic import VIP, Kind

if TYPE_CHECKING:
    from rich.console import Console

    from bench.namespaces import Namespace

_NODES = 4
_WARM = 1
MODES = {"requests": False, "new connections": True}


class Routed(Able):
    """No balancer: the client asks one node through the gateway's plain routing."""

    name = "no balancer"
    direct = True

    def setup(self, gateway: Namespace, site: Site) -> None:
        pass


def contenders() -> list[Contender]:
    """Return all of them; the first is what the others' cost is counted from, the second the ratios' base."""
    return [
        Routed(),
        Recipe("iptables, nth"),
        Recipe("iptables, random", by_chance=True),
        Forwarded("nftables"),
        Forwarded("xdp"),
        Forwarded("nftables", "full-nat"),
        Forwarded("xdp", "full-nat"),
        Haproxy(),
        Ipvs(),
    ]


Rates = dict[tuple[str, str], list[float]]


def main(output: Console, *, quick: bool) -> dict[str, Any]:
    """Measure, print a table for each family and return the rates."""
    results = {}
    for family in (4,) if quick else (4, 6):
        site = Site(family, _NODES, kinds=(Kind.TCP,))
        able, unable = [], {}
        for each in contenders():
            why = each.unable(site)
            if isinstance(each, Haproxy) and not installed("haproxy"):
                why = "haproxy is not installed (Debian: apt install haproxy)"
            if why:
                unable[each.name] = why
            else:
                able.append(each)
        rates: Rates = {(each.name, mode): [] for each in able for mode in MODES}
        for turn in range(3 if quick else 7):
            for each in able[turn % len(able) :] + able[: turn % len(able)]:
                for mode, rate in _round(each, site, 1 if quick else 3).items():
                    rates[each.name, mode].append(rate)
        output.print(_table(family, [each.name for each in able], rates))
        for name, why in unable.items():
            output.print(f"{name}: {why}", highlight=False, markup=False)
        results[family] = rates
    return {
        "tcp": [
            {"family": family, "contender": name, "what": mode, "per_second": found}
            for family, rates in results.items()
            for (name, mode), found in rates.items()
        ]
    }


def _round(contender: Contender, site: Site, seconds: int) -> dict[str, float]:
    with Network(site) as network, ExitStack() as stack:
        network.serve()
        stack.callback(contender.teardown, network.gateway)
        contender.setup(network.gateway, site)
        if isinstance(contender, Haproxy):
            network.await_listener(network.gateway)
        address = network.nodes[0] if contender.direct else str(VIP[site.family])
        found = {}
        for mode, close in MODES.items():
            network.wrk(address, "/", _WARM, close=close)
            _, found[mode] = network.wrk(address, "/", seconds, close=close)
    return found


def _table(family: int, names: list[str], rates: Rates) -> Table:
    table = Table(
        title=f"IPv{family}, wrk to nginx on one core: medians; x: ratio to {names[1]}; "
        f"us: the core's time for one, beyond that of {names[0]}",
        title_justify="left",
    )
    table.add_column("contender")
    for mode in MODES:
        for head in (f"{mode}/s", "x", "us"):
            table.add_column(head, justify="right")
    for name in names:
        cells = []
        for mode in MODES:
            own, base, plain = (rates[each, mode] for each in (name, names[1], names[0]))
            ratio = statistics.median(a / b for a, b in zip(own, base, strict=True))
            cost = statistics.median(1e6 / a - 1e6 / b for a, b in zip(own, plain, strict=True))
            cells += [f"{statistics.median(own):,.0f}", f"{ratio:.2f}", f"{cost:.1f}"]
        table.add_row(name, *cells)
    return table
