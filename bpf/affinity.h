/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Affinity: new flows of one client network go to one node. Which one is an entry of its own in the memory of
 * flows, under the network's address and no port; flows themselves are remembered as ever, so that they keep
 * their node when the network's changes.
 */
#ifndef POINTSMAN_AFFINITY_H
#define POINTSMAN_AFFINITY_H

#include "lib/prefix.h"
#include "schedule.h"

#define AFFINITY_MARK 0x5bd1e995u /* tells a network's hash from a client's */

static __always_inline struct hash network_hash(const struct listener *listener,
                                                const struct request *request) {
    __be32 network[4];
    struct hash hash;

    __builtin_memcpy(network, request->source, 16);
    if (request->family == 4)
        network[3] = prefix_word(network[3], listener->affinity4);
    else
        prefix_of(network, listener->affinity6);
    hash = client_hash(&listener->flows, (__u8)request->family, network, 0);
    hash.b ^= AFFINITY_MARK;
    return hash;
}

/* The position of the node that the client's network goes to; NOWHERE where none is known that takes more. */
__noinline int position_by_affinity(const struct listener *listener, struct request *request) {
    struct memory memory;
    struct node *node;
    __u32 position;

    if (!listener || !request)
        return -1;
    if (!recall(&listener->flows, network_hash(listener, request), flow_ticks(request->clock), &memory))
        return -1;
    position = find_word(listener->labels, listener->label_bits, flow_label(*memory.entry));
    node = node_at(listener, position);
    if (!node || !(node->flags & NODE_SCHEDULED))
        return -1;
    return (int)position;
}

/* The network was heard of: it keeps its node, or, where a new flow found none for it, gets that flow's. */
__noinline int keep_affinity(const struct listener *listener, struct request *request) {
    struct memory memory;
    struct node *node;
    __u32 now;

    if (!listener || !request)
        return 0;
    node = node_at(listener, request->position);
    now = flow_ticks(request->clock);
    if (recall(&listener->flows, network_hash(listener, request), now, &memory)) {
        if (request->use == NODE_FLOW || (node && flow_label(*memory.entry) == node->label)) {
            refresh(memory.entry, FLOW_NETWORK, listener->affinity_ticks, now);
            return 1;
        }
    }
    if (!node || request->use == NODE_FLOW)
        return 0;
    return remember(&listener->flows, &memory, node->label, FLOW_NETWORK, listener->affinity_ticks, now);
}

#endif
