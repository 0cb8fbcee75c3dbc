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
    HOP_LIMIT = "hop_limit"
    TOO_BIG = "too_big"
    NO_ROUTE = "no_route"
    BY_KERNEL = "by_kernel"
    FRAGMENT = "fragment"
    FRAGMENT_LOST = "fragment_lost"
    ICMP_ERROR = "icmp_error"
    ICMP_UNKNOWN = "icmp_unknown"
    NO_NEIGHBOUR = "no_neighbour"
    NOT_DTLS = "not_dtls"
    BAD_LENGTH = "bad_length"
    BAD_EPOCH = "bad_epoch"
    SOURCE_PORT = "source_port"
    DENIED = "denied"
    HELLO_OVER_PREFIX = "hello_over_prefix"
    HELLO_OVER_TOTAL = "hello_over_total"
    HELLO_OVER_NODE = "hello_over_node"
    CID_OVER_PREFIX = "cid_over_prefix"
    CID_OVER_NODE = "cid_over_node"
    UNPROVEN = "unproven"
    NO_SOURCE_PORT = "no_source_port"
    NOT_TRACKED = "not_tracked"
    NOT_FORWARDED = "not_forwarded"
    UNREAD = "unread"


class Scope(StrEnum):
    """Whose counter a verdict is."""

    NODE = "node"
    LISTENER = "listener"
    GATEWAY = "gateway"


EVERY = frozenset({"nftables", "xdp"})
XDP = frozenset({"xdp"})
NFTABLES = frozenset({"nftables"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """``planes`` are those that count it; ``normal`` tells a working gateway's verdict from one to look into.

    ``of_filter``: it is only met where there is a filter, which drops the packet in the mode "enforce".
    ``beside``: it is counted by a table of its own beside the data plane, the same with either.
    """

    scope: Scope
    says: str
    planes: frozenset[str] = EVERY
    normal: bool = True
    of_filter: bool = False
    beside: bool = False


def _filtered(says: str, planes: frozenset[str] = EVERY, *, normal: bool = True) -> Meaning:
    return Meaning(Scope.LISTENER, says, planes, normal, of_filter=True)


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
        NFTABLES,
        normal=False,
    ),
    Verdict.HAIRPIN: Meaning(
        Scope.GATEWAY, "a node's own datagram would have come back to it: dropped", normal=False
    ),
    Verdict.ICMP_SUPPRESSED: Meaning(
        Scope.GATEWAY, "an ICMP error or redirect that would have shown a node's address: dropped"
    ),
    Verdict.HOP_LIMIT: Meaning(
        Scope.LISTENER, "its hop limit ended here: answered time exceeded, as from the listener", XDP
    ),
    Verdict.TOO_BIG: Meaning(
        Scope.LISTENER, "bigger than the next link's MTU: answered too big, as from the listener", XDP
    ),
    Verdict.NO_ROUTE: Meaning(
        Scope.LISTENER, "no route to its node or client, or one that forbids: dropped", XDP, normal=False
    ),
    Verdict.BY_KERNEL: Meaning(
        Scope.GATEWAY,
        "sent on by the kernel, which finds the neighbour or cuts it up (counted beside cid, flow, ...)",
        XDP,
    ),
    Verdict.FRAGMENT: Meaning(Scope.GATEWAY, "a later fragment went where its first one did", XDP),
    Verdict.FRAGMENT_LOST: Meaning(
        Scope.GATEWAY, "a later fragment whose first one was not seen before it: dropped", XDP, normal=False
    ),
    Verdict.ICMP_ERROR: Meaning(
        Scope.GATEWAY, "an ICMP error reached the node, or the client as from the listener", XDP
    ),
    Verdict.ICMP_UNKNOWN: Meaning(
        Scope.GATEWAY, "an ICMP error about a packet of which nobody remembers the node: dropped", XDP
    ),
    Verdict.NO_NEIGHBOUR: Meaning(
        Scope.GATEWAY,
        "the client's neighbour is unknown and the driver has no way to wait for it: dropped",
        XDP,
        normal=False,
    ),
    Verdict.NOT_DTLS: _filtered("no DTLS by its content type or version"),
    Verdict.BAD_LENGTH: _filtered("the lengths of its records are not those of the datagram"),
    Verdict.BAD_EPOCH: _filtered("a record of an epoch that its content type does not have"),
    Verdict.SOURCE_PORT: _filtered("from a source port that is not served, as those of reflectors"),
    Verdict.DENIED: _filtered("from a prefix that is denied"),
    Verdict.HELLO_OVER_PREFIX: _filtered("a ClientHello over the budget of its source's prefix"),
    Verdict.HELLO_OVER_TOTAL: _filtered("a ClientHello over the service's budget", normal=False),
    Verdict.HELLO_OVER_NODE: _filtered("a ClientHello over its node's budget", normal=False),
    Verdict.CID_OVER_PREFIX: _filtered("a record with connection ID over the budget of its source's prefix"),
    Verdict.CID_OVER_NODE: _filtered("a record with connection ID over its node's budget", normal=False),
    Verdict.UNPROVEN: _filtered(
        "an answer to an address that has not shown yet that it gets answers, beyond what it sent", XDP
    ),
    Verdict.NO_SOURCE_PORT: Meaning(
        Scope.LISTENER, "full-nat has no port left for a new flow to its node: dropped", XDP, normal=False
    ),
    Verdict.NOT_TRACKED: Meaning(
        Scope.GATEWAY,
        "full-nat: connection tracking found a packet to a node invalid, or was told to leave it: dropped",
        NFTABLES,
        normal=False,
    ),
    Verdict.NOT_FORWARDED: Meaning(
        Scope.GATEWAY, "neither a service's nor allowed by the forwarding policy: dropped", beside=True
    ),
    Verdict.UNREAD: _filtered("behind more IPv6 extension headers or VLAN tags than a guard reads", XDP),
}

OF_NODES: tuple[Verdict, ...] = (Verdict.HELLO_OVER_NODE, Verdict.CID_OVER_NODE)
"""Those of a filter that are met when the node is known."""

GUARDED: tuple[Verdict, ...] = tuple(
    verdict
    for verdict, meaning in MEANINGS.items()
    if meaning.of_filter and verdict not in (*OF_NODES, Verdict.UNPROVEN, Verdict.UNREAD)
)
"""Those that a filter without nodes behind it has reason for, on either plane."""
