"""Keep ICMP errors and redirects from showing a node's address, or a way around the gateway.

An error about a packet that was already translated quotes the node. nft can write the quoted address but not
mend the ICMP checksum over it, so such errors are dropped and counted (docs/reference/limits.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from pointsman.model import Address, Family
from pointsman.plan.nftables.names import TCP, UDP, wire_tag
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.verdicts import Verdict

_DROP = f"meta l4proto @{Verdict.ICMP_SUPPRESSED} drop"
_QUOTE = 64
"""The quoted packet starts behind the 8 bytes of the ICMP header (RFC 792, RFC 4443)."""
_NUMBERS = {UDP: 17, TCP: 6}
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 51, 60, 135, 139, 140)
"""IPv6 extension headers but the fragment header (IANA's registry; ESP hides what follows it)."""


def _number(address: IPv4Address | IPv6Address) -> str:
    return f"{int(address):#x}"


def quoted_sets(
    family: Family, endpoints: Iterable[tuple[Address, int]], transport: str = UDP
) -> Iterator[Set]:
    """Node addresses and ports as they stand in a quoted header: nft compares raw payload with integers only."""
    ordered = sorted((int(address), port, address) for address, port in endpoints)
    pairs = {f"{_number(address)} . {port}": "" for _, port, address in ordered}
    alone = {_number(address): "" for _, _, address in ordered}
    tag = wire_tag(family, transport)
    if family is Family.V4:
        yield Set(f"quoted{tag}", f"typeof @th,{_QUOTE + 128},32 . @th,{_QUOTE + 176},16", pairs)
        yield Set(f"quoted_addresses{tag}", f"typeof @th,{_QUOTE + 128},32", alone)
        return
    yield Set(f"quoted{tag}", f"typeof @th,{_QUOTE + 192},128 . @th,{_QUOTE + 336},16", pairs)
    yield Set(f"quoted_addresses{tag}", f"typeof @th,{_QUOTE + 192},128", alone)


def suppress_rules(family: Family) -> Iterator[str]:
    """The postrouting rules that send errors to the chain of their family."""
    if family is Family.V4:
        types = "destination-unreachable, redirect, time-exceeded, parameter-problem"
        yield f"icmp type {{ {types} }} goto icmp_error4"
    else:
        types = "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-redirect"
        yield f"icmpv6 type {{ {types} }} goto icmp_error6"


def suppress_chains(family: Family, transports: Sequence[str] = (UDP,)) -> Iterator[Chain]:
    """The chain of the family's errors: about packets of each transport, one after the other."""
    rules = [rule for transport in transports for rule in _RULES[family](transport)]
    yield Chain(f"icmp_error{family.value}", tuple(rules))


def _v4(transport: str) -> Iterator[str]:
    quoted, number = f"@quoted{wire_tag(Family.V4, transport)}", _NUMBERS[transport]
    # One rule per header length, since the quoted ports stand behind the quoted options.
    for words in range(5, 16):
        header = _QUOTE + 32 * words
        quote = f"@th,{_QUOTE + 4},4 {words} @th,{_QUOTE + 72},8 {number}"
        yield f"{quote} @th,{_QUOTE + 128},32 . @th,{header + 16},16 {quoted} {_DROP}"
        # A redirect about a reply would teach the node a way past the gateway.
        yield f"icmp type redirect {quote} @th,{_QUOTE + 96},32 . @th,{header},16 {quoted} {_DROP}"
    # A quoted later fragment has no ports: by the address alone.
    later = f"@th,{_QUOTE + 48},16 & 0x1fff != 0"
    addresses = f"@quoted_addresses{wire_tag(Family.V4, transport)}"
    yield f"{later} @th,{_QUOTE + 72},8 {number} @th,{_QUOTE + 128},32 {addresses} {_DROP}"


def _v6(transport: str) -> Iterator[str]:
    tag, number = wire_tag(Family.V6, transport), _NUMBERS[transport]
    quoted, addresses = f"@quoted{tag}", f"@quoted_addresses{tag}"
    destination, header = f"@th,{_QUOTE + 192},128", f"@th,{_QUOTE + 48},8"
    yield f"{header} {number} {destination} . @th,{_QUOTE + 336},16 {quoted} {_DROP}"
    behind_fragment = _QUOTE + 320
    yield (
        f"{header} {_FRAGMENT} @th,{behind_fragment},8 {number} "
        f"{destination} . @th,{behind_fragment + 80},16 {quoted} {_DROP}"
    )
    # Ports behind other extension headers, whose length varies, or missing from a later fragment: by the address.
    others = f"{{ {', '.join(map(str, _EXTENSIONS))} }}"
    yield f"{header} {others} {destination} {addresses} {_DROP}"
    yield f"{header} {_FRAGMENT} @th,{behind_fragment},8 {others} {destination} {addresses} {_DROP}"
    yield (
        f"{header} {_FRAGMENT} @th,{behind_fragment},8 {number} @th,{behind_fragment + 16},16 & 0xfff8 != 0 "
        f"{destination} {addresses} {_DROP}"
    )
    # RFC 4861 section 4.5: target address, then destination address.
    yield f"icmpv6 type nd-redirect @th,192,128 {addresses} {_DROP}"
    yield f"icmpv6 type nd-redirect @nh,192,128 {addresses} {_DROP}"


_RULES = {Family.V4: _v4, Family.V6: _v6}
