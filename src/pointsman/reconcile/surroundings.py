"""Look around on the machine for what `plan.findings` judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointsman.kernel import iproute, offload, sockets
from pointsman.kernel.errors import KernelError
from pointsman.kernel.nft import Nft
from pointsman.model import Gateway
from pointsman.plan.findings import Surroundings
from pointsman.plan.nftables.ruleset import FAMILY, NAME

ROUTES_ASKED = 256
"""Route look-ups that one check makes; a site with more nodes has them on a few links."""


def look_around(gateway: Gateway, nft: Nft | None) -> Surroundings:
    """Read links, routes, sockets and, with ``nft``, other people's forward chains."""
    links = iproute.links()
    nodes = dict.fromkeys(
        own.address for service in gateway.services for node in service.nodes for own in node.addresses
    )
    chains, rules = foreign_forward_chains(nft) if nft is not None else ([], [])
    return Surroundings(
        mtu={link.name: link.mtu for link in links.values()},
        kinds={link.name: link.kind for link in links.values()},
        addresses=iproute.addresses(),
        routes={address: iproute.device_to(address) for address in list(nodes)[:ROUTES_ASKED]},
        bound=frozenset(sockets.bound_udp()),
        merging={name: tuple(found) for name in links if (found := offload.merging_offloads(name))},
        chains=tuple(chains),
        rules=tuple(rules),
        legacy_iptables=_legacy_iptables(),
    )


def foreign_forward_chains(nft: Nft) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Base chains of other tables at the forward hook, and their rules."""
    chains = [
        entry["chain"]
        for entry in nft.listing("list chains")
        if entry.get("chain", {}).get("hook") == "forward"
        and (entry["chain"]["family"], entry["chain"]["table"]) != (FAMILY, NAME)
        and entry["chain"]["family"] in ("ip", "ip6", "inet")
    ]
    rules = []
    for chain in chains:
        try:
            listed = nft.listing(f"list chain {chain['family']} {chain['table']} {chain['name']}")
        except KernelError:
            continue  # gone since, or of an extension that the library cannot show
        rules += [entry["rule"] for entry in listed if "rule" in entry]
    return chains, rules


def _legacy_iptables() -> bool:
    """Whether the old iptables back end has a filter table loaded."""
    for name in ("ip_tables_names", "ip6_tables_names"):
        try:
            if "filter" in Path(f"/proc/net/{name}").read_text().split():
                return True
        except OSError:
            continue
    return False
