/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets for nodes that answer clients by themselves: what is noted for the program that sends them. It is
 * one of its own, as the others are near what the verifier bears (docs/adr/0028-passing-by.md).
 */
#ifndef POINTSMAN_PASS_BY_H
#define POINTSMAN_PASS_BY_H

#include "aside.h"
#include "hear.h"
#include "noted.h"

enum passed {
    PASSED_REQUEST = 0,
    PASSED_FRAGMENT, /* a later one */
    PASSED_ERROR,    /* an ICMP error about what a node has sent */
};

static __always_inline int pass_noted(struct xdp_md *ctx, const struct packet *packet, __u32 node,
                                      enum passed part, __u32 use, __u32 counts, __u32 entropy) {
    struct scratch *note = AT(scratch, 0);

    if (!note)
        return XDP_ABORTED;
    note_packet(ctx, note, packet, (enum part)part);
    note->node = node;
    note->use = use;
    note->counts = counts;
    note->entropy = entropy;
    ask_for(ctx, TAIL_PASS_BY);
    return XDP_DROP;
}

static __always_inline int pass_by(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                   const struct listener *listener, const struct node *node,
                                   __be16 source_port, struct request *request) {
    __u32 element = listener->nodes + request->position;

    if (request->use == NODE_CID) {
        request->clock = bpf_ktime_get_coarse_ns();
        request->client = client_hash(&listener->flows, packet->family, packet->source, source_port);
        note_origin(config, &listener->flows, node->label, request->client, request->clock);
    }
    if (packet->first_fragment) {
        packet->reply = FRAGMENT_PASSED_BY;
        note_fragment(packet, node->address, element, node->hot, listener->counts, request->clock);
    }
    return pass_noted(ctx, packet, element, PASSED_REQUEST, request->use, listener->counts,
                      request->client.c);
}

/* A later fragment. The node may have gone since the first one, and another have its place. */
static __always_inline int pass_later_by(struct xdp_md *ctx, const struct packet *packet,
                                         const struct fragment *fragment) {
    struct node *node = AT(nodes, fragment->l3_delta);

    if (!node || !same_address(node->address, fragment->address)) {
        count_gateway(GATEWAY_FRAGMENT_LOST, packet->length);
        return XDP_DROP;
    }
    return pass_noted(ctx, packet, fragment->l3_delta, PASSED_FRAGMENT, 0, fragment->counts,
                      packet->fragment_id);
}

/* An ICMP error about what a node has sent a client: routers send it to the VIP, which is here too. */
static __always_inline int pass_error_by(struct xdp_md *ctx, const struct packet *packet,
                                         const struct listener *listener, __u32 position) {
    return pass_noted(ctx, packet, listener->nodes + position, PASSED_ERROR, 0, listener->counts, position);
}

#endif
