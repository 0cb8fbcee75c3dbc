/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every reason that a packet can meet, by whose counter it is; plan/verdicts.py has the same words, and
 * plan/xdp/abi.py the same numbers. Append-only.
 */
#ifndef POINTSMAN_VERDICTS_H
#define POINTSMAN_VERDICTS_H

/* Counted for a node, in struct hot. */
enum node_verdict {
    NODE_CID = 0,
    NODE_FLOW,
    NODE_BALANCED,
    NODE_REPLY,
    NODE_VERDICTS,
};

/* Counted for a listener, in struct listener_counts. */
enum listener_verdict {
    LISTENER_CID_UNKNOWN = 0,
    LISTENER_CID_NODE_DOWN,
    LISTENER_NO_NODE,
    LISTENER_HOP_LIMIT,
    LISTENER_TOO_BIG,
    LISTENER_NO_ROUTE,
    LISTENER_NOT_DTLS,
    LISTENER_BAD_LENGTH,
    LISTENER_BAD_EPOCH,
    LISTENER_SOURCE_PORT,
    LISTENER_DENIED,
    LISTENER_HELLO_OVER_PREFIX,
    LISTENER_HELLO_OVER_TOTAL,
    LISTENER_HELLO_OVER_NODE,
    LISTENER_CID_OVER_PREFIX,
    LISTENER_CID_OVER_NODE,
    LISTENER_UNPROVEN,
    LISTENER_NO_SOURCE_PORT,
    LISTENER_UNREAD,
    LISTENER_VERDICTS = 24, /* room for more without another layout */
};

/* Counted for the gateway, in struct gateway_counts. */
enum gateway_verdict {
    GATEWAY_FLOW_TABLE_FULL = 0,
    GATEWAY_HAIRPIN,
    GATEWAY_ICMP_SUPPRESSED,
    GATEWAY_BY_KERNEL,
    GATEWAY_FRAGMENT,
    GATEWAY_FRAGMENT_LOST,
    GATEWAY_ICMP_ERROR,
    GATEWAY_ICMP_UNKNOWN,
    GATEWAY_NO_NEIGHBOUR,
    GATEWAY_VERDICTS = 16,
};

/* In events, where one number says whose list the verdict is from. */
#define EVENT_NODE 0x000
#define EVENT_LISTENER 0x100
#define EVENT_GATEWAY 0x200

#endif
