"""Who competes: each sets up a gateway namespace that the rig has wired, and takes it down again."""

from __future__ import annotations

import importlib
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.programs import require
from bench.traffic import PORT, VIP, node_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.namespaces import Namespace
    from bench.rig import Site

POINTSMAN = Path(sys.executable).with_name("pointsman")


class Contender(Protocol):
    """A data plane under measurement."""

    name: str
    direct: bool  # clients speak to the nodes themselves: there is no balancer

    def setup(self, gateway: Namespace, site: Site) -> None: ...
    def teardown(self, gateway: Namespace) -> None: ...


class ForwardOnly:
    """Plain routing with no rules at all: the ceiling of whatever goes through the kernel's stack."""

    name = "forward only"
    direct = True

    def setup(self, gateway: Namespace, site: Site) -> None:
        pass

    def teardown(self, gateway: Namespace) -> None:
        pass


class Recipe:
    """The iptables rules of the Californium wiki's "DTLS 1.2 connection ID based load balancer".

    As published there: a raw rule that drops what is not DTLS 1.2, then in the nat table one u32 match and
    DNAT for each node, walked in order, and conntrack timeouts of 15 s. The script leaves handshakes to IPVS,
    which not every kernel has: here the ``statistic`` match deals them out, behind the CID rules, where no
    CID record comes. For IPv6, which the script lacks, the same with the fixed header's offsets.
    """

    direct = False

    def __init__(self, name: str = "recipe", variant: str = "nft", *, dtls_filter: bool = True) -> None:
        self.name = name
        self._variant = (
            variant  # iptables-nft is what `iptables` means on Debian; the other is iptables-legacy
        )
        self._dtls_filter = dtls_filter

    def setup(self, gateway: Namespace, site: Site) -> None:
        tool = f"{'ip6tables' if site.family == 6 else 'iptables'}-{self._variant}-restore"
        require(tool, "iptables")
        gateway.run([tool], stdin=recipe(site, dtls_filter=self._dtls_filter))
        gateway.sysctl({
            "net.netfilter.nf_conntrack_udp_timeout": 15,
            "net.netfilter.nf_conntrack_udp_timeout_stream": 15,
        })  # fmt: skip

    def teardown(self, gateway: Namespace) -> None:
        pass  # it goes with the namespace


def recipe(site: Site, *, dtls_filter: bool = True) -> str:
    """Return the recipe as iptables-restore reads it."""
    # "0>>22&0x3C@" skips an IPv4 header by its length field; the IPv6 header is 40 bytes.
    udp = "0>>22&0x3C@ " if site.family == 4 else ""
    base = 0 if site.family == 4 else 40
    first, low, cid = (f"{udp}{base + at}" for at in (7, 5, 16))
    to_service = f"-A PREROUTING -i {site.wan} -p udp --dport {PORT} -j"
    lines = []
    if dtls_filter:
        # "-m u32 ! --u32" is how the tools write a negated match back.
        lines += ["*raw", ":DTLS_FILTER - [0:0]"]
        lines.append(
            f'-A DTLS_FILTER -m u32 ! --u32 "{first}&0xF0FFFF=0x10FEFD && {low}&0x0F=4:9" -j DROP',
        )
        lines += [f"{to_service} DTLS_FILTER", "COMMIT"]
    lines += ["*nat", ":DTLS_NAT - [0:0]"]
    nodes = range(1, site.nodes + 1)
    lines += [
        f'-A DTLS_NAT -m u32 --u32 "{first}&0xFFFFFF=0x19FEFD && {cid}&0xFF={node}" '
        f"-j DNAT --to-destination {node_address(site.family, node)}"
        for node in nodes
    ]
    lines += [
        f"-A DTLS_NAT -m statistic --mode nth --every {site.nodes + 1 - node} --packet 0 "
        f"-j DNAT --to-destination {node_address(site.family, node)}"
        for node in nodes
    ]
    lines += [f"{to_service} DTLS_NAT", "COMMIT"]
    return "\n".join(lines) + "\n"


class Pointsman:
    """``pointsman apply`` with one service on one listener."""

    name = "pointsman"
    direct = False

    def __init__(self, dataplane: str = "nftables") -> None:
        self._dataplane = dataplane
        self._scratch = ExitStack()
        self._folder = Path()

    def setup(self, gateway: Namespace, site: Site) -> None:
        self._folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="pmbench-")))
        file = self._folder / "gateway.toml"
        file.write_text(configuration(site, self._dataplane))
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


def configuration(site: Site, dataplane: str) -> str:
    """Return the configuration file of a site."""
    vip = f"[{VIP[site.family]}]" if site.family == 6 else str(VIP[site.family])
    head = f"""\
[gateway]
name = "bench"
dataplane = "{dataplane}"
hash_seed = "6a09e667"

[[service]]
name = "coaps"
protocol = "dtls"
listen = ["{vip}:{PORT}"]
forward = "nat"
scheduler = "maglev"
connection_id = {{ offset = 0, bits = 8, length = 6 }}
"""
    nodes = {node: node_address(site.family, node) for node in range(1, site.nodes + 1)}
    return head + "".join(
        f'\n[[service.node]]\nname = "n{node}"\nid = {node}\naddress = ["{address}"]\n'
        for node, address in nodes.items()
    )


def load(reference: str) -> Contender:
    """Return ``MODULE:NAME`` called without arguments: a contender of your own, for a measurement."""
    module, _, name = reference.partition(":")
    contender: Contender = getattr(importlib.import_module(module), name)()
    return contender
