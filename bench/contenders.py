"""Who competes: each sets up a gateway namespace that the rig has wired, and takes it down again."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.libbpf import Program
from bench.namespaces import CommandError, run
from bench.programs import compile_program, require
from bench.traffic import BEYOND, MAC, OTHER_NODES, OTHER_VIPS, VIP, Kind, node_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.namespaces import Namespace
    from bench.rig import Site
    from bench.traffic import Address

POINTSMAN = Path(sys.executable).with_name("pointsman")
_OTHERS_NODES = 2


class Contender(Protocol):
    """A data plane under measurement."""

    name: str
    direct: bool  # clients speak to the nodes themselves: there is no balancer
    remembers: bool  # flows, for longer than a round: they are all made known once

    def unable(self, site: Site) -> str:
        """Return why it cannot take part at such a site; empty: it can."""
        ...

    def setup(self, gateway: Namespace, site: Site) -> None: ...
    def teardown(self, gateway: Namespace) -> None: ...


class Able:
    """What most contenders have in common."""

    direct = False
    remembers = False

    def unable(self, site: Site) -> str:
        del site
        return ""

    def teardown(self, gateway: Namespace) -> None:
        """Nothing: what was set up goes with the namespace."""


class ForwardOnly(Able):
    """Plain routing with no rules at all: the ceiling of whatever goes through the kernel's stack."""

    name = "forward only"
    direct = True

    def setup(self, gateway: Namespace, site: Site) -> None:
        pass


class _Hop(ctypes.Structure):
    """Mirrors struct hop."""

    _fields_ = (
        ("ifindex", ctypes.c_uint32),
        ("dst_mac", ctypes.c_uint8 * 6),
        ("src_mac", ctypes.c_uint8 * 6),
    )


class Ceiling(Able):
    """XDP programs that send each frame on by the other interface, unread: what the rig itself can do."""

    name = "redirect only"
    direct = True

    def __init__(self) -> None:
        self._programs = ExitStack()

    def setup(self, gateway: Namespace, site: Site) -> None:
        with gateway.entered():
            for at, to in ((site.wan, site.lan), (site.lan, site.wan)):
                hop = _Hop(ifindex=socket.if_nametoindex(to))
                hop.src_mac[:] = MAC[to]
                hop.dst_mac[:] = MAC[BEYOND[to]]
                program = Program(compile_program("ceiling"), "ceiling")
                self._programs.callback(program.close)
                program.write("hop", bytes(hop))
                program.attach(socket.if_nametoindex(at))

    def teardown(self, gateway: Namespace) -> None:
        del gateway
        self._programs.close()


class Recipe(Able):
    """The iptables rules of the Californium wiki's "DTLS 1.2 connection ID based load balancer".

    As published there: a raw rule that drops what is not DTLS 1.2, then in the nat table one u32 match and
    DNAT for each node, walked in order, and conntrack timeouts of 15 s. The script leaves handshakes to IPVS,
    which not every kernel has: here the ``statistic`` match deals them out, behind the CID rules, where no
    CID record comes. For IPv6, which the script lacks, the same with the fixed header's offsets.

    What names no node, plain UDP and TCP, is dealt out in the same way: the ordinary use of these rules.
    """

    def __init__(
        self, name: str = "recipe", variant: str = "nft", *, dtls_filter: bool = True, by_chance: bool = False
    ) -> None:
        self.name = name
        self._by_chance = by_chance  # the statistic match's mode: random instead of nth
        self._variant = (
            variant  # iptables-nft is what `iptables` means on Debian; the other is iptables-legacy
        )
        self._dtls_filter = dtls_filter

    def setup(self, gateway: Namespace, site: Site) -> None:
        tool = f"{'ip6tables' if site.family == 6 else 'iptables'}-{self._variant}-restore"
        require(tool, "iptables")
        text = recipe(site, dtls_filter=self._dtls_filter, by_chance=self._by_chance)
        gateway.run([tool], stdin=text)
        gateway.sysctl({
            "net.netfilter.nf_conntrack_udp_timeout": 15,
            "net.netfilter.nf_conntrack_udp_timeout_stream": 15,
        })  # fmt: skip


def recipe(site: Site, *, dtls_filter: bool = True, by_chance: bool = False) -> str:
    """Return the recipe as iptables-restore reads it; the measured service stands amid the others."""
    cids = site.kind is Kind.CID
    # "0>>22&0x3C@" skips an IPv4 header by its length field; the IPv6 header is 40 bytes.
    udp = "0>>22&0x3C@ " if site.family == 4 else ""
    base = 0 if site.family == 4 else 40
    first, low, cid = (f"{udp}{base + at}" for at in (7, 5, 16))

    def to(vip: str, port: int) -> str:
        return f"-A PREROUTING -i {site.wan} {vip}-p {site.kind.transport} --dport {port} -j"

    def deal(chain: str, nodes: list[Address]) -> list[str]:
        return [
            f"-A {chain} -m statistic {share(len(nodes) - at)} -j DNAT --to-destination {node}"
            for at, node in enumerate(nodes)
        ]

    def share(left: int) -> str:
        if by_chance:
            return f"--mode random --probability {1 / left:.11f}"
        return f"--mode nth --every {left} --packet 0"

    # As published, without a destination; beside other services with one.
    own = to(f"-d {VIP[site.family]} " if site.services > 1 else "", site.kind.port)
    others = list(other_services(site))
    filters, rules, jumps = [f"{own} DTLS_FILTER"], [], [f"{own} DTLS_NAT"]
    nodes = {number: node_address(site.family, number) for number in range(1, site.nodes + 1)}
    if cids:
        rules += [
            f'-A DTLS_NAT -m u32 --u32 "{first}&0xFFFFFF=0x19FEFD && {cid}&0xFF={number}" '
            f"-j DNAT --to-destination {node}"
            for number, node in nodes.items()
        ]
    rules += deal("DTLS_NAT", list(nodes.values()))
    for at, other in enumerate(others):
        jump = to(f"-d {other.vip} ", other.port)
        # One half before the measured service, one half behind it: chains are walked in order.
        position = 0 if at < len(others) // 2 else len(jumps)
        filters.insert(position, f"{jump} DTLS_FILTER")
        jumps.insert(position, f"{jump} {other.name}")
        if cids:
            rules += [
                f'-A {other.name} -m u32 --u32 "{first}&0xFFFFFF=0x19FEFD && {cid}&0xFF={number}" '
                f"-j DNAT --to-destination {node}"
                for number, node in enumerate(other.nodes, start=1)
            ]
        rules += deal(other.name, list(other.nodes))
    lines = []
    if dtls_filter and cids:
        # "-m u32 ! --u32" is how the tools write a negated match back.
        drop = f'-m u32 ! --u32 "{first}&0xF0FFFF=0x10FEFD && {low}&0x0F=4:9" -j DROP'
        lines += ["*raw", ":DTLS_FILTER - [0:0]", f"-A DTLS_FILTER {drop}", *filters, "COMMIT"]
    chains = [f":{name} - [0:0]" for name in ("DTLS_NAT", *(other.name for other in others))]
    lines += ["*nat", *chains, *rules, *jumps, "COMMIT"]
    return "\n".join(lines) + "\n"


class Ipvs(Able):
    """IPVS in NAT mode, round robin: what the kernel brings for balancing. It knows no connection IDs."""

    name = "ipvs"
    remembers = True

    def unable(self, site: Site) -> str:
        if site.kind is Kind.CID:
            return "IPVS knows no connection IDs"
        if shutil.which("modprobe"):
            subprocess.run(["modprobe", "-q", "ip_vs"], check=False)
        if not Path("/proc/net/ip_vs").exists():
            return "this kernel has no IPVS (CONFIG_IP_VS)"
        return ""

    def setup(self, gateway: Namespace, site: Site) -> None:
        require("ipvsadm", "ipvsadm")
        option = f"-{site.kind.transport[0]}"
        services = [
            (VIP[site.family], site.kind.port, [node_address(site.family, n + 1) for n in range(site.nodes)])
        ]
        services += [(other.vip, other.port, list(other.nodes)) for other in other_services(site)]
        lines = []
        for vip, port, nodes in services:
            service = f"{option} {_literal(vip)}:{port}"
            lines.append(f"-A {service} -s rr")
            lines += [f"-a {service} -r {_literal(node)}:{port} -m" for node in nodes]
        gateway.run(["ipvsadm", "--restore"], stdin="\n".join(lines) + "\n")


class Pointsman(Able):
    """``pointsman apply`` with one service on one listener, or as many as the site asks for.

    Whether it loads rules or attaches programs to the interfaces is its own business.
    """

    remembers = True

    def __init__(self, dataplane: str = "nftables", scheduler: str = "maglev") -> None:
        self.name = f"pointsman {dataplane}" + ("" if scheduler == "maglev" else f", {scheduler}")
        self._dataplane = dataplane
        self._scheduler = scheduler
        self._scratch = ExitStack()
        self._folder = Path()

    def unable(self, site: Site) -> str:
        """Ask ``pointsman check``: a version may lack a data plane, and a data plane a protocol."""
        small = replace(site, nodes=1, services=1)
        with tempfile.TemporaryDirectory(prefix="pmbench-") as folder:
            file = Path(folder, "gateway.toml")
            file.write_text(configuration(small, self._dataplane, self._scheduler))
            try:
                run([str(POINTSMAN), "check", str(file)])
            except CommandError as error:
                # The lines of the file that it names mean nothing to the reader.
                return str(error).splitlines()[0].rpartition("gateway.toml:")[2].partition(": ")[2] or str(
                    error
                )
        return ""

    def setup(self, gateway: Namespace, site: Site) -> None:
        self._folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
        file = self._folder / "gateway.toml"
        file.write_text(configuration(site, self._dataplane, self._scheduler))
        self._put_in_place(gateway, file)

    def _put_in_place(self, gateway: Namespace, file: Path) -> None:
        self._pointsman(gateway, "apply", str(file))

    def teardown(self, gateway: Namespace) -> None:
        with self._scratch:
            self._pointsman(gateway, "down")

    def _pointsman(self, gateway: Namespace, *arguments: str) -> str:
        environment = {"POINTSMAN_STATE_DIR": str(self._folder / "state")}
        return gateway.run([str(POINTSMAN), *arguments], env=environment)


class Ablation(Pointsman):
    """Pointsman's ruleset with something taken out: what it then gains is what that thing costs."""

    def __init__(self, name: str, change: Callable[[str], str]) -> None:
        super().__init__()
        self.name = name
        self._change = change
        self.changed = True  # whether there was anything to take out

    def _put_in_place(self, gateway: Namespace, file: Path) -> None:
        whole = self._pointsman(gateway, "plan", str(file), "--ruleset")
        ruleset = self._change(whole)
        self.changed = ruleset != whole
        gateway.run(["nft", "-f", "-"], stdin=ruleset)

    def teardown(self, gateway: Namespace) -> None:
        del gateway  # the ruleset goes with the namespace
        self._scratch.close()


@dataclass(frozen=True, slots=True)
class Other:
    """A service that nobody speaks to."""

    name: str
    vip: Address
    port: int
    nodes: tuple[Address, ...]


def other_services(site: Site) -> Iterator[Other]:
    """Yield the services beside the measured one: addresses, ports and nodes of their own."""
    for number in range(1, site.services):
        vip = OTHER_VIPS[site.family] + 1 + number % 250
        nodes = tuple(OTHER_NODES[site.family] + number * _OTHERS_NODES + at for at in range(_OTHERS_NODES))
        yield Other(f"other-{number}", vip, 7000 + number, nodes)


def configuration(site: Site, dataplane: str, scheduler: str = "maglev") -> str:
    """Return the configuration file of a site: its services under measurement, then the others."""
    parts = [f'[gateway]\nname = "bench"\ndataplane = "{dataplane}"\nhash_seed = "6a09e667"\n']
    for at, kind in enumerate(site.kinds):
        # A node serves one service alone where replies are known by its address.
        nodes = [
            (number + at * site.nodes, node_address(site.family, number + at * site.nodes))
            for number in range(1, site.nodes + 1)
        ]
        name = {Kind.CID: "coaps", Kind.UDP: "coap", Kind.TCP: "mqtts"}[kind]
        parts.append(_service(name, kind, VIP[site.family], kind.port, nodes, site.flows))
    for other in other_services(site):
        nodes = list(enumerate(other.nodes, start=1))
        parts.append(_service(other.name, site.kind, other.vip, other.port, nodes, 0))
    return "\n".join(parts).replace('scheduler = "maglev"', f'scheduler = "{scheduler}"')


def _service(
    name: str, kind: Kind, vip: Address, port: int, nodes: Sequence[tuple[int, Address]], flows: int
) -> str:
    cids = kind is Kind.CID
    lines = [
        "[[service]]",
        f'name = "{name}"',
        f'protocol = "{kind.protocol}"',
        f'listen = ["{_literal(vip)}:{port}"]',
        'forward = "nat"',
        'scheduler = "maglev"',
        *(["connection_id = { offset = 0, bits = 8, length = 6 }"] if cids else []),
        *([f"flow_table_size = {max(65_536, flows * 5 // 4)}"] if flows else []),
    ]
    for number, address in nodes:
        lines += ["", "[[service.node]]", f'name = "n{number}"']
        lines += [f"id = {number}"] if cids else []
        lines.append(f'address = ["{address}"]')
    return "\n".join(lines) + "\n"


def _literal(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def load(reference: str) -> Contender:
    """Return ``MODULE:NAME`` called without arguments: a contender of your own, for a measurement."""
    module, _, name = reference.partition(":")
    contender: Contender = getattr(importlib.import_module(module), name)()
    return contender
