"""Look around on the machine for what `plan.findings` judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from pointsman.kernel import cgroups, iproute, iptables, offload, policy_routing, sockets, sysctl
from pointsman.kernel.errors import KernelError
from pointsman.kernel.nft import Nft
from pointsman.model import Address, Family, Forward, Gateway
from pointsman.plan import foreign_iptables, foreign_nft, forwarding, multihome
from pointsman.plan.findings import Surroundings, vrfs_asked
from pointsman.plan.foreign import Filter, Rule
from pointsman.plan.multihome import MultihomeFacts
from pointsman.plan.nftables.full_nat import TRANSLATE_PRIORITY
from pointsman.plan.nftables.ruleset import FAMILY, NAME
from pointsman.plan.source_findings import OwnSockets, port_ranges

ROUTES_ASKED = 256
"""Route look-ups that one check makes; a site with more nodes has them on a few links."""

HOOKS = ("prerouting", "forward", "postrouting")
RAW = -300
"""Our own priority: chains before it see packets that nothing was done to yet."""

OURS = (NAME, forwarding.NAME, multihome.NAME)
"""Tables of our own (of the family inet)."""

LEGACY_HOOKS = {"filter": ("FORWARD",), "mangle": ("PREROUTING", "FORWARD", "POSTROUTING")}


def look_around(gateway: Gateway, nft: Nft | None) -> Surroundings:
    """Read links, routes, sockets and, with ``nft``, other people's chains."""
    links = iproute.links()
    every = dict.fromkeys(
        own.address for service in gateway.services for node in service.nodes for own in node.addresses
    )
    nodes = list(islice(every, ROUTES_ASKED))
    filters, unread = foreign_filters(nft) if nft is not None else ([], [])
    around = Surroundings(
        mtu={link.name: link.mtu for link in links.values()},
        addresses=iproute.addresses(),
        routes=iproute.devices_to(nodes),
        routers=iproute.routers_to(_on_link(gateway)),
        ethernet=frozenset(link.name for link in links.values() if link.mac),
        default_routes={family: found for family in Family if (found := iproute.default_device(family))},
        masters={link.name: (link.master, link.master_kind) for link in links.values() if link.master},
        vrfs=frozenset(link.name for link in links.values() if link.kind == "vrf"),
        down=frozenset(link.name for link in links.values() if not link.up),
        silent=frozenset(_silent()),
        bound=frozenset(sockets.bound_udp()),
        listening=frozenset(sockets.listening_tcp()),
        merging={name: tuple(merged) for name in links if (merged := offload.merging_offloads(name))},
        filters=tuple(filters),
        unread=tuple(unread),
        multihome=multihome_facts(gateway),
    )
    if any(service.sources for service in gateway.services):
        first = _translating_first(nft) if nft is not None else ()
        around = replace(around, own_sockets=_own_sockets(nodes, around), translating_first=tuple(first))
    vrf_routes = {
        (vrf, address): device
        for vrf in sorted(vrfs_asked(gateway, around))
        for address, device in iproute.devices_to(nodes, vrf=vrf).items()
    }
    return replace(around, vrf_routes=vrf_routes)


def _translating_first(nft: Nft) -> Iterator[str]:
    """Other people's chains that see new connections before full-nat's chain, and have rules."""
    for entry in nft.listing("list chains"):
        chain = entry.get("chain", {})
        if (
            (chain.get("type"), chain.get("hook")) == ("nat", "postrouting")
            and chain["prio"] <= TRANSLATE_PRIORITY
            and (chain["family"], chain["table"]) != (FAMILY, NAME)
        ):
            place = f"{chain['family']} {chain['table']} {chain['name']}"
            if any("rule" in each for each in nft.listing(f"list chain {place}")):
                yield f"chain {place}"


def _own_sockets(nodes: Sequence[Address], around: Surroundings) -> OwnSockets:
    local = port_ranges(sysctl.read("net/ipv4/ip_local_port_range") or "")
    return OwnSockets(
        frozenset(around.addresses),
        frozenset(iproute.sources_to(nodes)),
        local[0] if local else None,
        port_ranges(sysctl.read("net/ipv4/ip_local_reserved_ports") or ""),
        around.bound,
        around.listening,
    )


def _on_link(gateway: Gateway) -> list[Address]:
    """Addresses that have to be on a link of this machine."""
    services = (service for service in gateway.services if service.forward is Forward.DSR)
    every = dict.fromkeys(
        own.address for service in services for node in service.nodes for own in node.addresses
    )
    return list(islice(every, ROUTES_ASKED))


def multihome_facts(gateway: Gateway) -> MultihomeFacts:
    """What multihomed servers meet here; nothing is looked at where there are none."""
    if not gateway.multihomes:
        return MultihomeFacts()
    return MultihomeFacts(
        policy_routing.links({own.interface for server in gateway.multihomes for own in server.uplinks}),
        policy_routing.foreign_rules(),
        policy_routing.foreign_tables(),
        frozenset(own.cgroup for own in gateway.multihomes if own.cgroup and cgroups.found(own.cgroup)),
        policy_routing.default_families(),
    )


def _silent() -> Iterator[str]:
    if sysctl.read("net/ipv4/ip_forward") == "1":
        for interface in sysctl.interfaces(4):
            if interface != "lo" and sysctl.read(f"net/ipv4/conf/{interface}/forwarding") == "0":
                yield interface


def foreign_filters(nft: Nft) -> tuple[list[Filter], list[str]]:
    """Other people's chains that our packets pass, and lines about those that could not be read."""
    chains = [entry["chain"] for entry in nft.listing("list chains") if "chain" in entry]
    found, unread = [], []
    for chain in chains:
        if not _is_passed(chain):
            continue
        try:
            found.append(_filter_of(nft, chain))
        except KernelError as problem:
            unread.append(f"chain {_place(chain)} could not be read: {problem}")
    for family, table in iptables.legacy_tables():
        if table not in LEGACY_HOOKS:
            continue
        legacy = _by_iptables(family, table, LEGACY_HOOKS[table], legacy=True)
        if not legacy:
            unread.append(
                f"legacy iptables rules are loaded (table {family} {table}) which cannot be read without "
                f"{iptables.command(family, legacy=True)}; see that they let untracked UDP through"
            )
        found += legacy
    return found, unread


def _place(chain: Mapping[str, Any]) -> str:
    return f"{chain['family']} {chain['table']} {chain['name']}"


def _is_passed(chain: Mapping[str, Any]) -> bool:
    """Whether our packets meet it; chains of type nat see only what is tracked."""
    return (
        chain.get("hook") in HOOKS
        and chain["type"] != "nat"
        and chain["family"] in ("ip", "ip6", "inet")
        and chain["table"] not in OURS
        and (chain["hook"] != "prerouting" or chain["prio"] > RAW)
    )


def _filter_of(nft: Nft, chain: Mapping[str, Any]) -> Filter:
    family, table, name = chain["family"], chain["table"], chain["name"]
    chains: dict[str, tuple[Rule, ...]] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        listed = [
            entry["rule"]
            for entry in nft.listing(f"list chain {family} {table} {current}")
            if "rule" in entry
        ]
        chains[current] = foreign_nft.rules_of(listed)
        waiting += [rule.target for rule in chains[current] if rule.target and rule.target not in chains]
    # By these names iptables knows its own; only it can tell, and insert, what it has extensions for.
    if family != "inet" and name == name.upper() and table in (*LEGACY_HOOKS, "raw", "security"):
        own = _by_iptables(family, table, (name,), legacy=False)
        if own:
            return own[0]
    return Filter(
        f"chain {_place(chain)}", family, table, name, chain["hook"], chain.get("policy", "accept"), chains
    )


def _by_iptables(family: str, table: str, names: Sequence[str], *, legacy: bool) -> list[Filter]:
    text = iptables.rules(family, table, legacy=legacy)
    if text is None:
        return []
    chains, policies = foreign_iptables.read(text)
    command = iptables.command(family, legacy=legacy)
    whose = " of legacy iptables" if legacy else ""
    return [
        Filter(
            f"chain {family} {table} {name}{whose}",
            family,
            table,
            name,
            name.lower(),
            policies[name],
            chains,
            by_iptables=command,
        )
        for name in names
        if name in policies
    ]
