"""What a service's filter costs the packets that pass: the XDP program with it and without, in turn."""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.contenders import Pointsman
from bench.cost import REPEATS, Bench, Case, Packet
from bench.namespaces import CommandError
from bench.rig import Rig, Site
from bench.traffic import VIP, Kind, node_address, payload

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from bench.namespaces import Namespace

_NODES = 2
_FLOWS = 60_000


class Filtered(Pointsman):
    """The XDP plane with a filter in its DTLS service."""

    def __init__(self, name: str, lines: str) -> None:
        super().__init__("xdp")
        self.name = name
        self._lines = lines

    def _put_in_place(self, gateway: Namespace, file: Path) -> None:
        file.write_text(file.read_text().replace('protocol = "dtls"', f'protocol = "dtls"\n{self._lines}'))
        super()._put_in_place(gateway, file)


def main(output: Console, prefixes: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """Measure both families, print a table of nanoseconds and return them."""
    deny = f"filter.deny = {json.dumps(prefixes)}"
    planes = [
        Filtered("no filter", ""),
        Filtered("no filter, again", ""),
        Filtered("header", 'filter.level = "header"'),
        Filtered("record", 'filter.level = "record"'),
        Filtered(f"header, {len(prefixes):,} prefixes", f'filter.level = "header"\n{deny}'),
    ]
    found = {family: _measure(family, planes, 5 if quick else 15) for family in (4, 6)}
    table = Table(
        title="nanoseconds of the XDP program for a record that passes, and what the filter adds: medians",
        title_justify="left",
    )
    table.add_column("filter")
    for family in found:
        for what in found[family]:
            table.add_column(f"IPv{family}, {what}", justify="right")
            table.add_column("more", justify="right")
    for plane in planes:
        cells = []
        for family in found:
            for rounds in found[family].values():
                own, base = rounds[plane.name], rounds[planes[0].name]
                more = statistics.median(a - b for a, b in zip(own, base, strict=True))
                cells += [f"{statistics.median(own):.0f}", f"{more:+.0f}"]
        table.add_row(plane.name, *cells)
    output.print(table)
    return [
        {"family": family, "packet": packet, "filter": name, "nanoseconds": rounds}
        for family, packets in found.items()
        for packet, planes_rounds in packets.items()
        for name, rounds in planes_rounds.items()
    ]


def _cases(family: int) -> list[Case]:
    body = bytearray(payload(Kind.CID))
    body[11] = 1
    asked = Packet(family, Kind.CID, VIP[family], bytes(body))
    answer = Packet(family, Kind.CID, node_address(family, 1), bytes(body), reply=True)
    return [Case(f"{_FLOWS:,} clients", asked, _FLOWS), Case("reply", answer)]


def _measure(family: int, planes: list[Filtered], rounds: int) -> dict[str, dict[str, list[float]]]:
    site = Site(family, _NODES)
    with ExitStack() as stack:
        benches = []
        for plane in planes:
            rig = stack.enter_context(Rig(site))
            plane.setup(rig.gateway, site)
            stack.callback(plane.teardown, rig.gateway)
            with rig.gateway.entered():
                bench = Bench()
            stack.callback(bench.close)
            benches.append((plane.name, rig, bench, _cases(family)))
        results: dict[str, dict[str, list[float]]] = {
            case.name: {name: [] for name, *_ in benches} for case in benches[0][3]
        }
        for turn in range(rounds):
            at = turn % len(benches)
            for name, rig, bench, cases in benches[at:] + benches[:at]:
                with rig.gateway.entered():
                    for case in cases:
                        results[case.name][name].append(_run(bench, case))
    return results


def _run(bench: Bench, case: Case) -> float:
    _, idle, _ = bench.run(case, case.packet, REPEATS, nothing=True)
    verdict, busy, _ = bench.run(case, case.packet, REPEATS)
    if verdict != 4:  # XDP_REDIRECT
        raise CommandError(f"{case.name}: verdict {verdict}: the record does not pass")
    return busy - idle
