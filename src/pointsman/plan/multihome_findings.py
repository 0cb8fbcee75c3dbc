"""What on this machine stands in the way of multihomed servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pointsman.model import Address, Family, Gateway, Multihome, MultihomeMode
from pointsman.plan.multihome import FIRST_NUMBER, MultihomeFacts, Numbered, addresses, numbered, router

Told = tuple[str, bool]
"""A line, and whether it keeps the configuration from being applied."""


def found_about(gateway: Gateway, facts: MultihomeFacts, carried: Mapping[Address, str]) -> Iterator[Told]:
    """Everything worth telling; ``carried`` are this machine's addresses."""
    for server in gateway.multihomes:
        yield from _server(server, facts, carried)
    for each in numbered(gateway):
        yield from _uplink(each, facts)
    if gateway.multihomes:
        yield from _numbers(gateway, facts)


def _server(server: Multihome, facts: MultihomeFacts, carried: Mapping[Address, str]) -> Iterator[Told]:
    label = f"multihome {server.name}"
    if server.mode is MultihomeMode.SOCKET:
        if server.cgroup not in facts.cgroups:
            yield f"{label}: there is no control group {server.cgroup}; start the server first", True
        return
    for own in server.addresses:
        if own not in carried:
            length = own.max_prefixlen
            yield f"{label}: no interface carries {own}; `ip address add {own}/{length} dev lo`", False
        family = Family(own.version)
        if family not in facts.defaults:
            yield (
                f"{label}: there is no default route for IPv{own.version}, and a server without any route cannot "
                "answer; any will do, as by an uplink",
                False,
            )


def _uplink(each: Numbered, facts: MultihomeFacts) -> Iterator[Told]:
    name = each.uplink.interface
    label = f"multihome {each.server.name}, uplink {name}"
    found = facts.links.get(name)
    if found is None:
        yield (
            f"{label}: there is no interface {name}; its routes come with an `apply` when it is there",
            False,
        )
        return
    if not found.up:
        yield f"{label}: the interface is down; its routes come with an `apply` when it is up", False
        return
    for family in Family:
        if each.server.mode is MultihomeMode.ADDRESS:
            asked = each.server.address(family) is not None
        else:
            asked = any(own.version == family for own in addresses(each.uplink, found))
        if asked and router(each.uplink, found, family) is None:
            yield (
                f"{label}: no IPv{family.value} gateway is named or found; only its own networks are answered",
                False,
            )


def _numbers(gateway: Gateway, facts: MultihomeFacts) -> Iterator[Told]:
    ours = {each.table for each in numbered(gateway)}
    for table in sorted(ours & facts.tables):
        last = FIRST_NUMBER + 99
        yield (
            f"multihome: routing table {table} has routes of others; {FIRST_NUMBER} to {last} are Pointsman's",
            True,
        )
    by_mark = [own for own in gateway.multihomes if own.mode is MultihomeMode.ADDRESS]
    if not by_mark:
        return
    mask = by_mark[0].mark_mask
    for rule in facts.rules:
        if rule.bits & mask:
            yield (
                f"multihome {by_mark[0].name}: mark_mask {mask:#x} has bits that the rule with priority "
                f"{rule.priority} asks for (fwmark {rule.mark:#x}/{rule.mask:#x}); other bits",
                True,
            )
            return
