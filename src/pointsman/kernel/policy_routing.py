"""Routes and rules of our own, which are known by their protocol number, and what uplinks have."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pointsman.kernel import iproute
from pointsman.model import Address, Family
from pointsman.plan.multihome import (
    FIRST_NUMBER,
    PROTOCOL,
    ForeignRule,
    LinkFacts,
    Route,
    Rule,
)

_OURS = range(FIRST_NUMBER, FIRST_NUMBER + 100)
_EVERY_BIT = 0xFFFFFFFF

Kind = TypeVar("Kind", Route, Rule)


def links(interfaces: Collection[str]) -> dict[str, LinkFacts]:
    """What those of the interfaces have that are there."""
    if not interfaces:
        return {}
    gateways: dict[str, list[Address]] = {}
    for family in Family:
        rows = iproute.ask(f"-{family.value}", "route", "show", "default")
        for row in sorted(rows, key=lambda row: int(row.get("metric", 0))):
            for hop in (row, *row.get("nexthops", [])):
                if "gateway" in hop and "dev" in hop:
                    gateways.setdefault(hop["dev"], []).append(ipaddress.ip_address(hop["gateway"]))
    return {
        row["ifname"]: LinkFacts(
            "UP" in row.get("flags", []),
            tuple(
                ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}")
                for entry in row.get("addr_info", [])
                if "local" in entry and entry.get("scope") == "global" and not entry.get("temporary")
            ),
            tuple(gateways.get(row["ifname"], ())),
        )
        for row in iproute.ask("address", "show")
        if row.get("ifname") in interfaces
    }


def default_families() -> frozenset[Family]:
    """The IP versions that have a default route."""
    return frozenset(
        family for family in Family if iproute.ask(f"-{family.value}", "route", "show", "default")
    )


# what is ours


def own_routes() -> list[Route]:
    found = []
    for family in Family:
        for row in iproute.ask(f"-{family.value}", "route", "show", "table", "all", "proto", PROTOCOL):
            blocked = row.get("type") == "unreachable"
            found.append(
                Route(
                    family,
                    int(row["table"]),
                    None if row["dst"] == "default" else ipaddress.ip_network(row["dst"]),
                    ipaddress.ip_address(row["gateway"]) if "gateway" in row else None,
                    None if blocked else row.get("dev"),
                )
            )
    return found


def own_rules() -> list[Rule]:
    return [
        Rule(family, int(row["priority"]), tuple(_selector(row)), tuple(_action(row)))
        for family in Family
        for row in _rules(family)
        if str(row.get("protocol")) == PROTOCOL
    ]


def _rules(family: Family) -> list[Any]:
    found: list[Any] = iproute.ask(f"-{family.value}", "rule", "show")
    return found


def _selector(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("src", "all") != "all":
        length = row.get("srclen", 32 if ":" not in row["src"] else 128)
        yield from ("from", f"{row['src']}/{length}")
    if "fwmark" in row:
        yield from ("fwmark", f"{row['fwmark']}/{row.get('fwmask', hex(_EVERY_BIT))}")
    if "oif" in row:
        yield from ("oif", row["oif"])
    if "ipproto" in row:
        yield from ("ipproto", str(row["ipproto"]))
    if "sport" in row:
        yield from ("sport", str(row["sport"]))
    elif "sport_start" in row:
        yield from ("sport", f"{row['sport_start']}-{row['sport_end']}")


def _action(row: Mapping[str, Any]) -> Iterator[str]:
    yield from ("lookup", str(row.get("table", "")))
    if "suppress_prefixlen" in row:
        yield from ("suppress_prefixlength", str(row["suppress_prefixlen"]))


def change(
    before: Iterable[Route], after: Iterable[Route], rules: Iterable[Rule], wanted: Iterable[Rule]
) -> None:
    """Turn routes and rules into those that are wanted; raise KernelError.

    Routes come before the rules that lead to them, and go behind them: an answer finds its way or its old one.
    """
    for family in Family:
        new, old = _difference(before, after, family)
        new_rules, old_rules = _difference(rules, wanted, family)
        iproute.carry_out(family, [f"route replace {' '.join(own.words())}" for own in new])
        iproute.carry_out(family, [f"rule add {' '.join(own.words())}" for own in new_rules])
        iproute.carry_out(family, [f"rule del {' '.join(own.words())}" for own in old_rules])
        # A route that took the place of another by "replace" is gone already.
        replaced = {(own.table, own.destination, own.device is None) for own in new}
        left = [own for own in old if (own.table, own.destination, own.device is None) not in replaced]
        iproute.carry_out(family, [f"route del {' '.join(own.words())}" for own in left])


def _difference(have: Iterable[Kind], want: Iterable[Kind], family: Family) -> tuple[list[Kind], list[Kind]]:
    """What is missing, and what is too much."""
    there = [own for own in have if own.family is family]
    wanted = [own for own in want if own.family is family]
    return [own for own in wanted if own not in there], [own for own in there if own not in wanted]


# what is others'


def foreign_rules() -> tuple[ForeignRule, ...]:
    return tuple(
        ForeignRule(
            family,
            int(row["priority"]),
            int(str(row.get("fwmark", "0")), 0),
            int(str(row.get("fwmask", hex(_EVERY_BIT))), 0) if "fwmark" in row else 0,
        )
        for family in Family
        for row in _rules(family)
        if str(row.get("protocol")) != PROTOCOL
    )


def foreign_tables() -> frozenset[int]:
    """Those of our numbers that hold routes which are not ours."""
    found = set()
    for family in Family:
        for row in iproute.ask(f"-{family.value}", "-details", "route", "show", "table", "all"):
            table = str(row.get("table", ""))
            if table.isdecimal() and int(table) in _OURS and str(row.get("protocol")) != PROTOCOL:
                found.add(int(table))
    return frozenset(found)
