"""Every reason that a packet of a service can meet, the same words in counters, metrics and docs.

The list is append-only: a name, once released, keeps its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    CID = "cid"
    FLOW = "flow"
    BALANCED = "balanced"
    REPLY = "reply"
    CID_UNKNOWN = "cid_unknown"
    CID_NODE_DOWN = "cid_node_down"
    NO_NODE = "no_node"
    FLOW_TABLE_FULL = "flow_table_full"
    FROM_GATEWAY = "from_gateway"
    HAIRPIN = "hairpin"
    ICMP_SUPPRESSED = "icmp_suppressed"


class Scope(StrEnum):
    """Whose counter a verdict is."""

    NODE = "node"
    LISTENER = "listener"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Meaning:
    """``normal`` tells a working gateway's verdict from one that somebody should look into."""

    scope: Scope
    says: str
    normal: bool = True


MEANINGS: dict[Verdict, Meaning] = {
    Verdict.CID: Meaning(Scope.NODE, "a record went to the node that its connection ID names"),
    Verdict.FLOW: Meaning(Scope.NODE, "a datagram went to the node that is remembered for its client"),
    Verdict.BALANCED: Meaning(Scope.NODE, "a datagram went to the node that the scheduler picked"),
    Verdict.REPLY: Meaning(Scope.NODE, "a datagram of the node left as the listener's"),
    Verdict.CID_UNKNOWN: Meaning(
        Scope.LISTENER,
        "a record's connection ID names no node of the service (cid_unknown decides)",
        normal=False,
    ),
    Verdict.CID_NODE_DOWN: Meaning(
        Scope.LISTENER, "a record names a node that takes nothing now (cid_node_down decides)", normal=False
    ),
    Verdict.NO_NODE: Meaning(Scope.LISTENER, "no node takes new flows: dropped", normal=False),
    Verdict.FLOW_TABLE_FULL: Meaning(
        Scope.GATEWAY,
        "balanced without being remembered, as the flow table is full (counted beside balanced)",
        normal=False,
    ),
    Verdict.FROM_GATEWAY: Meaning(
        Scope.LISTENER,
        "sent by the gateway itself: not balanced, answered port unreachable",
        normal=False,
    ),
    Verdict.HAIRPIN: Meaning(
        Scope.GATEWAY, "a node's own datagram would have come back to it: dropped", normal=False
    ),
    Verdict.ICMP_SUPPRESSED: Meaning(
        Scope.GATEWAY, "an ICMP error or redirect that would have shown a node's address: dropped"
    ),
}
