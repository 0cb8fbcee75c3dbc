"""Compile filters and guards into what the XDP programs look up, not yet placed in the maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from pointsman.model import Budgets, Filter, FilterLevel, FilterMode, Gateway, Prefix, Service
from pointsman.plan.identity import ByIdentity, remembered
from pointsman.plan.xdp.abi_filter import BUCKET_SHIFT, GUARD_PORT_WORDS, FilterRule, PrefixSays, RuleFlag

_SECOND = 1_000_000_000 << BUCKET_SHIFT
PORTS = 65536

Rows = tuple[tuple[int, bytes, int], ...]
"""Length, address and PrefixSays of prefixes of one family."""


@dataclass(frozen=True, slots=True)
class FilterEntry:
    """A filter; ``template`` is its struct without places. ``source_ports`` has a bit for each port, or is empty."""

    template: FilterRule
    source_ports: bytes = b""
    prefixes4: Rows = ()
    prefixes6: Rows = ()

    @property
    def limits_nodes(self) -> bool:
        return bool(self.template.hello_node_quarter or self.template.cid_node_quarter)

    @property
    def limits_prefixes(self) -> bool:
        return bool(self.template.hello_prefix_quarter or self.template.cid_prefix_quarter)

    @property
    def limits_all(self) -> bool:
        return bool(self.template.hello_total_quarter)

    @property
    def limits_answers(self) -> bool:
        return bool(self.template.amplification)


@dataclass(frozen=True, slots=True)
class GuardEntry:
    """A filter before the ports (first, last) of some interfaces."""

    name: str
    interfaces: tuple[str, ...]
    ports: tuple[tuple[int, int], ...]
    filter: FilterEntry


def filter_entry(service: Service) -> FilterEntry | None:
    """The service's filter as an entry, None where it has none; the same object for the same filter."""
    if service.filter is None:
        return None
    length = service.connection_id.length if service.connection_id is not None else None
    return _compiled(ByIdentity(service.filter), length or 0)


def guard_entries(gateway: Gateway) -> tuple[GuardEntry, ...]:
    return tuple(
        GuardEntry(
            guard.name,
            guard.interfaces,
            tuple((ports.first, ports.last) for ports in guard.ports),
            _compiled(ByIdentity(guard.filter), 0),
        )
        for guard in gateway.guards
    )


def guard_table(guards: Iterable[tuple[GuardEntry, int]]) -> bytes:
    """The filters' numbers by port, for guards of one interface with the numbers that they were given.

    Port 0 has one that enforces, if there is any: it judges packets whose port cannot be read.
    """
    guards = sorted(guards, key=lambda guarded: not guarded[0].filter.template.flags & RuleFlag.ENFORCE)
    table = bytearray(8 * GUARD_PORT_WORDS)
    for _, number in guards[:1]:
        table[:2] = number.to_bytes(2, "little")
    for guard, number in guards:
        for first, last in guard.ports:
            table[2 * first : 2 * last + 2] = number.to_bytes(2, "little") * (last - first + 1)
    return bytes(table)


@remembered(1024)
def _compiled(own: ByIdentity[Filter], cid_length: int) -> FilterEntry:
    wanted = own.value
    says: dict[Prefix, int] = dict.fromkeys(wanted.deny, int(PrefixSays.DENIED))
    says |= dict.fromkeys(wanted.allow, int(PrefixSays.ALLOWED))  # which wins where both are as long
    rows4 = _rows({prefix: said for prefix, said in says.items() if isinstance(prefix, IPv4Network)})
    rows6 = _rows({prefix: said for prefix, said in says.items() if isinstance(prefix, IPv6Network)})
    flags = RuleFlag(0)
    for flag, asked in (
        (RuleFlag.ENFORCE, wanted.mode is FilterMode.ENFORCE),
        (RuleFlag.RECORDS, wanted.level is FilterLevel.RECORD),
        (RuleFlag.DTLS13, wanted.dtls13),
        (RuleFlag.SOURCE_PORTS, bool(wanted.source_ports)),
        (RuleFlag.PREFIXES4, bool(rows4)),
        (RuleFlag.PREFIXES6, bool(rows6)),
    ):
        flags |= flag if asked else RuleFlag(0)
    hello, cid = wanted.hello, wanted.cid
    return FilterEntry(
        FilterRule(
            flags,
            mask6=((1 << 128) - (1 << (128 - wanted.prefix6))).to_bytes(16, "big"),
            mask4=int.from_bytes(((1 << 32) - (1 << (32 - wanted.prefix4))).to_bytes(4, "big"), "little"),
            amplification=wanted.amplification,
            cid_length=cid_length,
            hello_prefix_quarter=_quarter(hello.per_prefix),
            hello_prefix_depth=_depth(hello),
            hello_total_quarter=_quarter(hello.total),
            hello_total_depth=_depth(hello),
            hello_node_quarter=_quarter(hello.per_node),
            hello_node_depth=_depth(hello),
            cid_prefix_quarter=_quarter(cid.per_prefix),
            cid_prefix_depth=_depth(cid),
            cid_node_quarter=_quarter(cid.per_node),
            cid_node_depth=_depth(cid),
        ),
        _bits(wanted.source_ports),
        rows4,
        rows6,
    )


def _rows(says: dict[IPv4Network, int] | dict[IPv6Network, int]) -> Rows:
    return tuple((prefix.prefixlen, prefix.network_address.packed, said) for prefix, said in says.items())


def _quarter(rate: int) -> int:
    """What a quarter of a packet costs where so many packets a second pass; see bpf/lib/bucket.h."""
    return max(1, round(_SECOND / (4 * rate))) if rate else 0


def _depth(budgets: Budgets) -> int:
    return budgets.burst * _SECOND


def _bits(ports: Iterable[int]) -> bytes:
    found = 0
    for port in ports:
        found |= 1 << port
    return found.to_bytes(PORTS // 8, "little") if found else b""
