"""What a packet costs that a filter drops: Pointsman's guard and service filter, an iptables u32 rule, xdp-filter.

The generator's packets end at the gateway, so a rate is the inverse of what generator and filter take for one. The
same with a program that drops everything unread is measured in turn, and taken off.
"""

from __future__ import annotations

import ipaddress
import random
import shutil
import socket
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench import passing
from bench.contenders import POINTSMAN
from bench.libbpf import Program
from bench.namespaces import CommandError
from bench.programs import compile_program, require
from bench.rig import Rig, Site
from bench.traffic import CLIENTS, VIP, WAN, Kind, Scenario, node_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from bench.namespaces import Namespace

PREFIXES = 100_000
_FLOWS = 60_000
_PACKETS = {True: 640_000, False: 6_400_000}
_HEAD = '[gateway]\nname = "bench"\ndataplane = "xdp"\nhash_seed = "6a09e667"\n'


@dataclass(slots=True)
class Case:
    """A filter, the traffic that it drops, and what was measured; ``unable`` says why nothing was."""

    name: str
    kind: Kind
    setup: Callable[[Namespace, int, ExitStack], None]
    nanoseconds: list[float] = field(default_factory=list)
    unable: str = ""


def main(output: Console, *, quick: bool) -> dict[str, Any]:
    """Measure both families, print a table and return the figures."""
    results: dict[int, list[Case]] = {}
    for family in (4, 6):
        cases = _cases()
        with Rig(Site(family, 2)) as rig:
            for _ in range(3 if quick else 9):
                for case in cases:
                    if not case.unable:
                        _measure(rig, family, case, _PACKETS[quick])
        results[family] = cases
    output.print(_table(results))
    for case in results[4]:
        if case.unable:
            output.print(f"{case.name}: {case.unable}", highlight=False, markup=False)
    return {
        "passing": passing.main(output, strangers(), quick=quick),
        "filter": [
            {"family": family, "filter": case.name, "rounds": case.nanoseconds, "unable": case.unable}
            for family, cases in results.items()
            for case in cases
        ],
    }


def _measure(rig: Rig, family: int, case: Case, packets: int) -> None:
    scenario = Scenario(family, 2, _FLOWS, kind=case.kind)
    with ExitStack() as stack:
        try:
            case.setup(rig.gateway, family, stack)
        except CommandError as error:
            case.unable = str(error)
            return
        rig.flood(scenario, packets // 10)
        before = _delivered(rig.gateway)
        seconds = rig.flood(scenario, packets)
        if _delivered(rig.gateway) != before:
            raise CommandError(f"{case.name}: packets were not dropped")
    case.nanoseconds.append(seconds / packets * 1e9)


def _delivered(gateway: Namespace) -> int:
    """Datagrams that reached the gateway's own stack, where nobody listens."""
    with gateway.entered():
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        six = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    found = int(values[names.index("NoPorts")])
    return found + sum(int(line.split()[1]) for line in six if line.startswith("Udp6NoPorts"))


def strangers() -> list[str]:
    """Return prefixes all over the address space, so that a look-up goes deep; nobody here is in one of them."""
    source = random.Random(1)  # noqa: S311 - the same in every run
    used = [
        ipaddress.ip_network(each)
        for each in ("10.0.0.0/16", "192.0.2.0/24", "198.18.0.0/15", "203.0.113.0/24")
    ]
    found: set[str] = set()
    while len(found) < PREFIXES // 2:
        prefix = ipaddress.ip_network((source.randrange(1 << 16, 224 << 16) << 8, 24))
        if not any(each.overlaps(prefix) for each in used):
            found.add(str(prefix))
    while len(found) < PREFIXES:
        prefix6 = ipaddress.ip_network(((1 << 45 | source.getrandbits(45)) << 80, 48))
        if not prefix6.overlaps(ipaddress.ip_network("2001:db8::/32")):
            found.add(str(prefix6))
    return sorted(found)


def _cases() -> list[Case]:
    crowd = strangers()
    return [
        Case("dropped unread", Kind.UDP, _everything),
        Case("guard: not DTLS", Kind.UDP, _guard('level = "record"')),
        Case("service filter: not DTLS", Kind.UDP, _service('filter.level = "record"')),
        Case("guard: a source port", Kind.CID, _guard('drop_source_ports = ["1-65535"]')),
        Case("guard: one denied prefix", Kind.CID, _guard(_denied([]))),
        Case(f"guard: one of {PREFIXES:,} more", Kind.CID, _guard(_denied(crowd))),
        Case("iptables u32 in raw: not DTLS", Kind.UDP, _u32),
        Case("xdp-filter: a port", Kind.UDP, _xdp_filter),
    ]


def _everything(gateway: Namespace, family: int, stack: ExitStack) -> None:
    del family
    program = Program(compile_program("drop"), "drop")
    stack.callback(program.close)
    with gateway.entered():
        program.attach(socket.if_nametoindex(WAN))
    stack.callback(gateway.run, ["ip", "link", "set", WAN, "xdpdrv", "off"])


def _denied(more: list[str]) -> str:
    own = [str(ipaddress.ip_network((CLIENTS[4], 8))), str(ipaddress.ip_network((CLIENTS[6], 48)))]
    return "deny = [" + ", ".join(f'"{prefix}"' for prefix in own + more) + "]"


def _guard(own: str) -> Callable[[Namespace, int, ExitStack], None]:
    ports = ", ".join(str(kind.port) for kind in (Kind.CID, Kind.UDP))
    text = (
        f'{_HEAD}[[guard]]\nname = "bench"\ninterface = "{WAN}"\nports = [{ports}]\n[guard.filter]\n{own}\n'
    )
    return lambda gateway, _family, stack: _applied(gateway, text, stack)


def _service(own: str) -> Callable[[Namespace, int, ExitStack], None]:
    def setup(gateway: Namespace, family: int, stack: ExitStack) -> None:
        vip = f"[{VIP[6]}]" if family == 6 else str(VIP[4])
        nodes = "".join(
            f'[[service.node]]\nname = "n{n}"\naddress = "{node_address(family, n)}"\n' for n in (1, 2)
        )
        listen = f'listen = ["{vip}:{Kind.UDP.port}"]'
        _applied(
            gateway, f'{_HEAD}[[service]]\nname = "s"\nprotocol = "dtls"\n{listen}\n{own}\n{nodes}', stack
        )

    return setup


def _applied(gateway: Namespace, text: str, stack: ExitStack) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
    environment = {"POINTSMAN_STATE_DIR": str(folder / "state")}
    file = folder / "gateway.toml"
    file.write_text(text)
    stack.callback(gateway.run, [str(POINTSMAN), "down"], env=environment)
    gateway.run([str(POINTSMAN), "apply", str(file)], env=environment)


def _u32(gateway: Namespace, family: int, stack: ExitStack) -> None:
    """The recipe's raw rule, for the port that is measured."""
    tool = f"{'ip6tables' if family == 6 else 'iptables'}-nft-restore"
    require(tool, "iptables")
    at = "0>>22&0x3C@ 7" if family == 4 else "47"
    low = "0>>22&0x3C@ 5" if family == 4 else "45"
    match = f'-m u32 ! --u32 "{at}&0xF0FFFF=0x10FEFD && {low}&0x0F=4:9"'
    rule = f"-A PREROUTING -i {WAN} -p udp --dport {Kind.UDP.port} {match} -j DROP"
    stack.callback(gateway.run, [tool], stdin="*raw\nCOMMIT\n")
    gateway.run([tool], stdin=f"*raw\n{rule}\nCOMMIT\n")


def _xdp_filter(gateway: Namespace, family: int, stack: ExitStack) -> None:
    del family
    if shutil.which("xdp-filter") is None:
        raise CommandError("xdp-filter is not installed (Debian: apt install xdp-tools)")
    stack.callback(gateway.run, ["xdp-filter", "unload", WAN])
    gateway.run(["xdp-filter", "load", "--mode", "native", "--policy", "allow", "--features", "udp", WAN])
    gateway.run(["xdp-filter", "port", "--proto", "udp", "--mode", "dst", str(Kind.UDP.port)])


def _table(results: dict[int, list[Case]]) -> Table:
    table = Table(
        title="nanoseconds for a packet that is dropped, the rig's own taken off: median (least, most)",
        title_justify="left",
    )
    table.add_column("dropped by")
    for family in results:
        table.add_column(f"IPv{family}", justify="right")
    for row, case in enumerate(results[4]):
        cells = []
        for cases in results.values():
            own = cases[0].nanoseconds
            # The first case is the rig itself.
            found = [
                each - (base if row else 0) for each, base in zip(cases[row].nanoseconds, own, strict=False)
            ]
            cells.append(
                f"{statistics.median(found):.0f} ({min(found):.0f}, {max(found):.0f})" if found else "-"
            )
        table.add_row(case.name, *cells)
    return table
