"""Other people's nftables rules as ``foreign.Rule``, from libnftables' JSON (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pointsman.plan.foreign import UNTOLD, Field, Match, Rule, Span, Value, span

_META = {
    "iifname": Field.IIF,
    "iif": Field.IIF,
    "oifname": Field.OIF,
    "oif": Field.OIF,
    "l4proto": Field.PROTOCOL,
    "nfproto": Field.FAMILY,
}
_PORTS = {"sport": Field.SPORT, "dport": Field.DPORT}
_ADDRESSES = {"saddr": Field.SADDR, "daddr": Field.DADDR}
_HARMLESS = ("counter", "log", "mangle", "notrack")
"""Statements that every packet passes."""
_NUMBERS = {"17": "udp", "6": "tcp", "2": "ipv4", "10": "ipv6"}
_HIGHEST = 0xFFFF


def rules_of(listed: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules of one chain, in their order; a verdict map becomes a rule for each of its elements."""
    return tuple(rule for entry in listed for rule in _rules(entry.get("expr", [])))


def _rules(expressions: list[Mapping[str, Any]]) -> Iterator[Rule]:
    matches: list[Match] = []
    for part in expressions:
        ((kind, what),) = part.items()
        if kind == "match":
            matches += _match(what)
        elif kind in ("accept", "drop", "return"):
            yield Rule(tuple(matches), kind)
            return
        elif kind == "reject":
            yield Rule(tuple(matches), "drop")
            return
        elif kind in ("jump", "goto"):
            yield Rule(tuple(matches), kind, what["target"])
            return
        elif kind == "vmap":
            yield from _verdict_map(tuple(matches), what)
            return
        elif kind == "xt" and isinstance(what, dict) and what.get("type") == "target":
            yield Rule(tuple(matches), "drop" if what.get("name") == "REJECT" else "")
            return
        elif kind not in _HARMLESS:
            matches.append(UNTOLD)


def _verdict_map(matches: tuple[Match, ...], what: Mapping[str, Any]) -> Iterator[Rule]:
    data = what.get("data")
    elements = data.get("set") if isinstance(data, dict) else None
    for key, verdict in elements or []:
        asked = _match({"op": "==", "left": what["key"], "right": key})
        for rule in _rules([verdict]):
            yield Rule((*matches, *asked), rule.verdict, rule.target)


def _match(what: Mapping[str, Any]) -> list[Match]:
    field, implied = _field(what["left"])
    operator, right = what["op"], what["right"]
    negated = operator == "!="
    if operator in ("<", ">", "<=", ">="):
        values = _compared(operator, right)
    elif operator in ("==", "!=", "in"):
        values = tuple(_value(field, each) for each in _members(right))
    else:
        values = (None,)
    return [*implied, Match(field, values, negated)]


def _field(left: Any) -> tuple[Field, list[Match]]:
    """The field that an expression reads, and what reading it asks for besides."""
    if not isinstance(left, dict) or len(left) != 1:
        return Field.UNKNOWN, []
    ((kind, what),) = left.items()
    if kind == "meta":
        return _META.get(what.get("key"), Field.UNKNOWN), []
    if kind == "ct":
        # What is not tracked has a state and nothing else that could be asked for.
        return (Field.STATE if what.get("key") == "state" else Field.NEVER), []
    if kind == "payload" and "protocol" in what:
        return _payload(what["protocol"], what["field"])
    return Field.UNKNOWN, []


def _payload(protocol: str, field: str) -> tuple[Field, list[Match]]:
    if protocol in ("ip", "ip6"):
        of_family = Match(Field.FAMILY, ("ipv4" if protocol == "ip" else "ipv6",))
        if field == "protocol":
            return Field.PROTOCOL, [of_family]
        return _ADDRESSES.get(field, Field.UNKNOWN), [of_family]
    if protocol == "th":
        return _PORTS.get(field, Field.UNKNOWN), []
    if protocol in ("udp", "tcp"):
        return _PORTS.get(field, Field.UNKNOWN), [Match(Field.PROTOCOL, (protocol,))]
    if protocol == "ether":
        return Field.UNKNOWN, []
    return Field.NEVER, []  # a header that our packets do not have


def _members(right: Any) -> list[Any]:
    if isinstance(right, dict) and "set" in right:
        found = right["set"]
        return found if isinstance(found, list) else [found]
    return right if isinstance(right, list) else [right]


def _value(field: Field, given: Any) -> Value:
    if isinstance(given, dict) and "elem" in given:
        given = given["elem"].get("val")
    if isinstance(given, dict):
        if "prefix" in given:
            return span(f"{given['prefix']['addr']}/{given['prefix']['len']}")
        if "range" in given:
            low, high = given["range"]
            return span(f"{low}-{high}")
        return None
    if not isinstance(given, str | int) or str(given).startswith("@"):
        return None
    if field in (Field.SADDR, Field.DADDR, Field.SPORT, Field.DPORT):
        return span(str(given))
    return _NUMBERS.get(str(given), str(given))


def _compared(operator: str, right: Any) -> tuple[Value, ...]:
    if not isinstance(right, int):
        return (None,)
    return {
        "<": (Span(0, right - 1),),
        "<=": (Span(0, right),),
        ">": (Span(right + 1, _HIGHEST),),
        ">=": (Span(right, _HIGHEST),),
    }[operator]
