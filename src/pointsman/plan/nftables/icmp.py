"""Keep ICMP errors and redirects from showing a node's address, or a way around the gateway.

An error about a packet that was already translated quotes the node. nft can write the quoted address but not
mend the ICMP checksum over it, so such errors are dropped and counted (docs/reference/limits.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from pointsman.model import Address, Family
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.verdicts import Verdict

_DROP = f"meta l4proto @{Verdict.ICMP_SUPPRESSED} drop"
_QUOTE = 64
"""The quoted packet starts behind the 8 bytes of the ICMP header (RFC 792, RFC 4443)."""
_UDP = 17
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 51, 60, 135, 139, 140)
"""IPv6 extension headers but the fragment header (IANA's registry; ESP hides what follows it)."""


def _number(address: IPv4Address | IPv6Address) -> str:
    return f"{int(address):#x}"


def quoted_sets(family: Family, endpoints: Iterable[tuple[Address, int]]) -> Iterator[Set]:
    """Node addresses and ports as they stand in a quoted header: nft compares raw payload with integers only."""
    ordered = sorted((int(address), port, address) for address, port in endpoints)
    pairs = {f"{_number(address)} . {port}": "" for _, port, address in ordered}
    alone = {_number(address): "" for _, _, address in ordered}
    if family is Family.V4:
        yield Set("quoted4", f"typeof @th,{_QUOTE + 128},32 . @th,{_QUOTE + 176},16", pairs)
        yield Set("quoted_addresses4", f"typeof @th,{_QUOTE + 128},32", alone)
        return
    yield Set("quoted6", f"typeof @th,{_QUOTE + 192},128 . @th,{_QUOTE + 336},16", pairs)
    yield Set("quoted_addresses6", f"typeof @th,{_QUOTE + 192},128", alone)


def suppress_rules(family: Family) -> Iterator[str]:
    """The postrouting rules that send errors to the chain of their family."""
    if family is Family.V4:
        types = "destination-unreachable, redirect, time-exceeded, parameter-problem"
        yield f"icmp type {{ {types} }} goto icmp_error4"
    else:
        types = "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-redirect"
        yield f"icmpv6 type {{ {types} }} goto icmp_error6"


def suppress_chains(family: Family) -> Iterator[Chain]:
    yield Chain(f"icmp_error{family.value}", tuple(_v4() if family is Family.V4 else _v6()))


def _v4() -> Iterator[str]:
    # One rule per header length, since the quoted ports stand behind the quoted options.
    for words in range(5, 16):
        udp = _QUOTE + 32 * words
        quote = f"@th,{_QUOTE + 4},4 {words} @th,{_QUOTE + 72},8 {_UDP}"
        yield f"{quote} @th,{_QUOTE + 128},32 . @th,{udp + 16},16 @quoted4 {_DROP}"
        # A redirect about a reply would teach the node a way past the gateway.
        yield f"icmp type redirect {quote} @th,{_QUOTE + 96},32 . @th,{udp},16 @quoted4 {_DROP}"
    # A quoted later fragment has no ports: by the address alone.
    later = f"@th,{_QUOTE + 48},16 & 0x1fff != 0"
    yield f"{later} @th,{_QUOTE + 72},8 {_UDP} @th,{_QUOTE + 128},32 @quoted_addresses4 {_DROP}"


def _v6() -> Iterator[str]:
    destination, header = f"@th,{_QUOTE + 192},128", f"@th,{_QUOTE + 48},8"
    yield f"{header} {_UDP} {destination} . @th,{_QUOTE + 336},16 @quoted6 {_DROP}"
    behind_fragment = _QUOTE + 320
    yield (
        f"{header} {_FRAGMENT} @th,{behind_fragment},8 {_UDP} "
        f"{destination} . @th,{behind_fragment + 80},16 @quoted6 {_DROP}"
    )
    # Ports behind other extension headers, whose length varies, or missing from a later fragment: by the address.
    others = f"{{ {', '.join(map(str, _EXTENSIONS))} }}"
    yield f"{header} {others} {destination} @quoted_addresses6 {_DROP}"
    yield f"{header} {_FRAGMENT} @th,{behind_fragment},8 {others} {destination} @quoted_addresses6 {_DROP}"
    yield (
        f"{header} {_FRAGMENT} @th,{behind_fragment},8 {_UDP} @th,{behind_fragment + 16},16 & 0xfff8 != 0 "
        f"{destination} @quoted_addresses6 {_DROP}"
    )
    # RFC 4861 section 4.5: target address, then destination address.
    yield f"icmpv6 type nd-redirect @th,192,128 @quoted_addresses6 {_DROP}"
    yield f"icmpv6 type nd-redirect @nh,192,128 @quoted_addresses6 {_DROP}"
