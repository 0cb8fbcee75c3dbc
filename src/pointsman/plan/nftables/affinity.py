"""Affinity: the label that new flows of a client network get, in a map of each service and family.

The key of an IPv6 network is its hash, for the same reason as a flow's. The map's size is that of the flows: a full
one only means that a network's new flows are scheduled.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from pointsman.model import Affinity, Family
from pointsman.plan.nftables.expressions import SLOT_KEY, FamilyWords
from pointsman.plan.nftables.ruleset import Set

_SALT = 0x7F4A7C15
"""Another seed than that of the flows, whose keys are hashes as well."""


def network_key(affinity: Affinity, words: FamilyWords, seed: int) -> str:
    """The client's network in a rule."""
    source = f"{words.ip} saddr"
    if words.family is Family.V4:
        return source if affinity.prefix4 == 32 else f"{source} & {_mask(affinity.prefix4, Family.V4)}"
    masked = source if affinity.prefix6 == 128 else f"{source} & {_mask(affinity.prefix6, Family.V6)}"
    return f"jhash {masked} mod 4294967295 seed {seed ^ _SALT:#x}"


def _mask(prefix: int, family: Family) -> str:
    return str(ip_network((0 if family is Family.V4 else bytes(16), prefix)).netmask)


def networks_map(name: str, words: FamilyWords, size: int) -> Set:
    key = f"typeof {words.ip} saddr" if words.family is Family.V4 else SLOT_KEY
    return Set(name, f"{key} : {words.label_type}", size=size, flags="dynamic,timeout", owned_by_packets=True)


def remember(networks: str, affinity: Affinity, words: FamilyWords, seed: int) -> str:
    """Keep the network's label; where there is one already, it stays and lives on."""
    key = network_key(affinity, words, seed)
    return f"update @{networks} {{ {key} timeout {affinity.timeout}s : {words.label} }}"


def forget(networks: str, affinity: Affinity, words: FamilyWords, seed: int) -> Iterator[str]:
    yield f"delete @{networks} {{ {network_key(affinity, words, seed)} : {words.label} }}"
