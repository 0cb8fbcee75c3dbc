"""What on this machine stands in the way of the services, found before an operator's users find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.model import Address, Endpoint, Gateway

MARK = "pointsman"
"""The comment that the offered rules carry, and by which they are found again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people; ``fatal`` ones keep a configuration from being applied."""

    text: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``routes``: the interface that packets to a node leave by. ``merging``: offloads by interface.

    ``chains`` and ``rules`` are libnftables' JSON objects of other people's forward chains.
    """

    mtu: Mapping[str, int]
    kinds: Mapping[str, str]
    addresses: Mapping[Address, str]
    routes: Mapping[Address, str | None]
    bound: frozenset[Endpoint]
    merging: Mapping[str, tuple[str, ...]]
    chains: tuple[Mapping[str, Any], ...]
    rules: tuple[Mapping[str, Any], ...]
    legacy_iptables: bool = False


def find(gateway: Gateway, around: Surroundings) -> list[Finding]:
    """Everything worth telling, fatal findings first."""
    found = [
        *_interfaces(gateway, around),
        *_port_conflicts(gateway, around),
        *_routes(gateway, around),
        *_link_mtus(gateway, around),
        *_merging(around),
        *foreign_chains(around),
    ]
    return sorted(found, key=lambda finding: not finding.fatal)


def _interfaces(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for service in gateway.services:
        for listener in service.listeners:
            vip, interface = listener.endpoint.address, listener.interface
            if interface is not None and interface not in around.mtu:
                known = ", ".join(name for name in sorted(around.mtu) if name != "lo")
                yield Finding(
                    f"service {service.name}, listener {listener.endpoint}: there is no interface {interface}; "
                    f"one of {known}",
                    fatal=True,
                )
            if interface is None and vip not in around.addresses:
                yield Finding(
                    f"service {service.name}, listener {listener.endpoint}: no interface carries {vip}; "
                    "name one (interface = ...), or see that the address is routed to this machine"
                )


def _port_conflicts(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for service in gateway.services:
        for listener in service.listeners:
            if listener.endpoint in around.bound:
                yield Finding(
                    f"service {service.name}, listener {listener.endpoint}: a program on this machine is bound to "
                    "it and would hear nothing any more; stop it, or take another port",
                    fatal=True,
                )


def _routes(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    for service in gateway.services:
        for node in service.nodes:
            for own in node.addresses:
                if own.address not in around.routes:
                    continue
                device = around.routes[own.address]
                if device is None:
                    yield Finding(
                        f"service {service.name}, node {node.name}: no route to {own.address}; add one"
                    )
                elif device == "lo":
                    yield Finding(
                        f"service {service.name}, node {node.name}: {own.address} is this machine's own; "
                        "a node is another machine or network namespace",
                        fatal=True,
                    )


def _link_mtus(gateway: Gateway, around: Surroundings) -> Iterator[Finding]:
    """Errors about datagrams too big for the nodes' link are suppressed, so that link must not be the smaller one."""
    clients = {
        name
        for service in gateway.services
        for listener in service.listeners
        if (name := listener.interface or around.addresses.get(listener.endpoint.address)) is not None
    }
    nodes = {device for device in around.routes.values() if device}
    for client in sorted(clients & around.mtu.keys()):
        for node in sorted(nodes & around.mtu.keys()):
            if around.mtu[client] > around.mtu[node]:
                yield Finding(
                    f"clients' link {client} has MTU {around.mtu[client]}, nodes' link {node} only "
                    f"{around.mtu[node]}: larger datagrams that must not be fragmented are lost in silence; "
                    f"raise the MTU of {node} or lower that of {client}"
                )


def _merging(around: Surroundings) -> Iterator[Finding]:
    for interface, offloads in sorted(around.merging.items()):
        for offload in offloads:
            yield Finding(
                f"{interface} merges datagrams of different sessions ({offload} is on) and all would go to the "
                f"node of the first; `ethtool -K {interface} {offload} off`"
            )


def foreign_chains(around: Surroundings) -> Iterator[Finding]:
    """Other people's forward chains that drop what they do not know: untracked packets, as all of ours are."""
    for chain in around.chains:
        place = (chain["family"], chain["table"], chain["name"])
        rules = [rule for rule in around.rules if (rule["family"], rule["table"], rule["chain"]) == place]
        if any(_is_ours(rule) for rule in rules):
            continue
        if chain.get("policy") == "drop":
            why = "its policy is drop"
        elif any(_drops_unknown(rule) for rule in rules):
            why = "it has a rule that drops what no rule before it took"
        else:
            continue
        family, table, name = place
        yield Finding(
            f"chain {family} {table} {name} would drop what the services forward ({why}); add: "
            f"{_line_to_add(family, table, name)}"
        )
    if around.legacy_iptables:
        yield Finding(
            "legacy iptables rules are loaded, which cannot be read here; if their FORWARD chain drops, add: "
            + _line_to_add("ip", "filter", "FORWARD", tool="iptables-legacy")
        )


def _is_ours(rule: Mapping[str, Any]) -> bool:
    return rule.get("comment") == MARK or f'"{MARK}"' in str(rule.get("expr", "")).replace("'", '"')


def _drops_unknown(rule: Mapping[str, Any]) -> bool:
    """Whether the rule drops or rejects everything, or everything that is untracked or not established."""
    expressions = [entry for entry in rule.get("expr", []) if "counter" not in entry and "log" not in entry]
    if not expressions or not ({"drop", "reject"} & expressions[-1].keys()):
        return False
    for match in expressions[:-1]:
        left = match.get("match", {}).get("left", {})
        if left.get("ct", {}).get("key") != "state":
            return False
        states = match["match"]["right"]
        if "untracked" not in (states if isinstance(states, list) else [states]):
            return False
    return True


def _line_to_add(family: str, table: str, chain: str, tool: str = "") -> str:
    by_iptables = table == "filter" and chain in ("FORWARD", "DOCKER-USER") and family in ("ip", "ip6")
    if tool or by_iptables:
        command = tool or ("iptables" if family == "ip" else "ip6tables")
        return (
            f"{command} -I {chain} -p udp -m conntrack --ctstate UNTRACKED "
            f"-m comment --comment {MARK} -j ACCEPT"
        )
    return (
        f"nft insert rule {family} {table} {chain} ct state untracked meta l4proto udp accept comment {MARK}"
    )


def fatal(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.fatal]
