/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is done with a packet whose UDP or TCP header is there: to a node, to a client, or neither. */
#ifndef POINTSMAN_HANDLE_H
#define POINTSMAN_HANDLE_H

#include "admit.h"
#include "aside.h"
#include "full_nat.h"
#include "hear.h"
#include "noted.h"
#include "pass_by.h"

#define ANSWER_SECONDS                                                                                       \
    3 /* how much longer a leaving node's answers are translated than it is sent anything */

static __always_inline bool may_fragment(const struct packet *packet) {
    const struct iphdr *ip = packet->l3;

    return packet->family == 4 && !(ip->frag_off & swap16(0x4000));
}

static __always_inline int to_node(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                   const struct listener *listener, __be16 source_port, const void *payload,
                                   __u32 left) {
    __u32 now = (__u32)bpf_jiffies64(), hops = 1;
    struct request request = {.preferred = NOWHERE};
    struct hot *hot_here;
    struct node *node;
    enum way way = WAY_KNOWN;
    struct next_hop *hop;

    if (unlikely(listener->filter) && is_refused(ctx, packet, listener, source_port))
        return XDP_DROP;
    if (choose(config, packet, listener, source_port, payload, left, &request) != CHOSEN_NODE) {
        tell(config, request.verdict, listener->counts);
        return XDP_DROP;
    }
    node = node_at(listener, request.position);
    if (!node)
        return XDP_ABORTED;
    if (unlikely(listener->filter) && is_over_node(node))
        return XDP_DROP;
    if (listener->forward >= FORWARD_DSR)
        return pass_by(ctx, config, packet, listener, node, source_port, &request);
    hot_here = hot_of(config, node->hot);
    if (!hot_here)
        return XDP_ABORTED;
    hop = &hot_here->hop;
    if (unlikely(!is_fresh(config, hop, packet->interface, now))) {
        hop->interface = 0;
        way = ask_way(ctx, config, packet, packet->source, node->address, hop, now);
        if (way == WAY_NOT_OURS)
            return XDP_PASS;
        if (way == WAY_NONE)
            return refuse(ctx, config, packet, listener->counts, LISTENER_NO_ROUTE, packet->destination, 0);
    }
    if (unlikely(packet->hop_limit <= 1))
        return refuse(ctx, config, packet, listener->counts, LISTENER_HOP_LIMIT, packet->destination, 0);
    if (unlikely(way == WAY_ENCAPSULATED))
        hops = 0;
    if (unlikely(hop->mtu && packet->length > hop->mtu)) {
        if (!may_fragment(packet))
            return refuse(ctx, config, packet, listener->counts, LISTENER_TOO_BIG, packet->destination,
                          hop->mtu);
        /* The kernel cuts it up. */
        hops = 0;
    }
    add(&hot_here->count[request.use & 3], packet->length);
    tell(config, EVENT_NODE | request.use, node->hot);
    if (packet->first_fragment)
        note_fragment(packet, node->address, node->l3_delta, node->hot, listener->counts,
                      bpf_ktime_get_coarse_ns());
    rewrite_l3(packet, node->address, node->l3_delta, hops);
    if (!rewrite_l4(packet, node->port, node->l4_delta))
        return XDP_DROP;
    if (unlikely(!hops)) {
        count_gateway(GATEWAY_BY_KERNEL, packet->length);
        return XDP_PASS;
    }
    if (unlikely(way == WAY_BY_KERNEL))
        return by_kernel(ctx, packet);
    return send_to(ctx, packet, hop);
}

static __always_inline int to_client(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                     const struct reply *reply, __be16 client_port, const void *payload,
                                     __u32 left, __u64 clock) {
    __u32 now = (__u32)bpf_jiffies64();
    struct hot *hot_here = hot_of(config, reply->hot);
    struct destination *place;
    enum way way = WAY_KNOWN;

    if (!hot_here)
        return XDP_ABORTED;
    packet->reply = 1;
    place = destination_of(config, packet->destination, reply->hot);
    if (!place)
        return XDP_ABORTED;
    if (unlikely(!is_fresh(config, &place->hop, packet->interface, now) || place->hot != reply->hot ||
                 !same_address(place->address, packet->destination))) {
        place->hop.interface = 0;
        way = ask_way(ctx, config, packet, packet->source, packet->destination, &place->hop, now);
        if (way == WAY_NOT_OURS)
            return XDP_PASS;
        if (way == WAY_NONE || way == WAY_ENCAPSULATED)
            return refuse(ctx, config, packet, reply->counts, LISTENER_NO_ROUTE, reply->address, 0);
        place->hot = reply->hot;
        __builtin_memcpy(place->address, packet->destination, 16);
    }
    if (unlikely(packet->hop_limit <= 1))
        return refuse(ctx, config, packet, reply->counts, LISTENER_HOP_LIMIT, reply->address, 0);
    if (unlikely(place->hop.mtu && packet->length > place->hop.mtu))
        /* Without leave to fragment or with it: the node learns, and cuts up the next one itself. */
        return refuse(ctx, config, packet, reply->counts, LISTENER_TOO_BIG, reply->address, place->hop.mtu);
    if (unlikely(reply->filter) && is_unproven(ctx, packet, reply, client_port))
        return XDP_DROP;
    hear_of(config, packet, reply, packet->destination, client_port, payload, left, clock);
    add(&hot_here->count[NODE_REPLY], packet->length);
    tell(config, EVENT_NODE | NODE_REPLY, reply->hot);
    if (packet->first_fragment)
        note_fragment(packet, reply->address, reply->l3_delta, reply->hot, reply->counts, clock);
    rewrite_l3(packet, reply->address, reply->l3_delta, 1);
    if (!rewrite_l4(packet, reply->port, reply->l4_delta))
        return XDP_DROP;
    if (unlikely(way == WAY_BY_KERNEL))
        return by_kernel(ctx, packet);
    return send_to(ctx, packet, &place->hop);
}

/* Programs of their own go on with packets of full-nat services. */
static __always_inline int by_full_nat(struct xdp_md *ctx, const struct packet *packet, enum tail program) {
    struct scratch *note = AT(scratch, 0);

    if (!note)
        return XDP_ABORTED;
    note_packet(ctx, note, packet, packet->first_fragment ? PART_FIRST : PART_WHOLE);
    ask_for(ctx, program);
    return XDP_DROP;
}

/* Whether a node's packet to a source address is the answer to somebody; fills in the passage. */
static __always_inline bool is_answer(const struct packet *packet, const __be16 *ports) {
    struct scratch *note = AT(scratch, 0);

    if (!note)
        return false;
    __builtin_memcpy(note->passage.block.source, packet->destination, 16);
    __builtin_memcpy(note->passage.block.node, packet->source, 16);
    note->passage.block.node_port = ports[0];
    note->passage.block.protocol = packet->protocol;
    note->passage.clock = bpf_ktime_get_coarse_ns();
    return translate_back(swap16(ports[1]));
}

/* `left` in the packet counts from its UDP or TCP header on. */
static __always_inline int handle(struct xdp_md *ctx, const struct config *config, struct packet *packet) {
    const __be16 *ports = packet->l4;
    const struct listener *listener;
    const struct reply *reply;
    const __u8 *payload;
    __u32 left;
    __u64 clock;

    if ((__u8 *)packet->l4 + 8 > (__u8 *)packet->end ||
        packet->left < (packet->protocol == IPPROTO_TCP ? 20 : 8))
        return XDP_PASS;
    payload = (__u8 *)packet->l4 + 8;
    left = packet->left - 8;
    if (may_be_listener(packet->destination)) {
        listener = listener_at(config, packet->destination, ports[1], packet->protocol);
        if (!listener) {
            if (!(packet->port_flags & PORT_CLIENTS) && unlikely(is_answer(packet, ports)))
                return by_full_nat(ctx, packet, TAIL_FULL_NAT_BACK);
            goto reply;
        }
        if (is_martian(packet->family, packet->source) || is_listener_address(packet->source))
            return XDP_PASS;
        if (unlikely(listener->forward == FORWARD_FULL_NAT))
            return by_full_nat(ctx, packet, TAIL_FULL_NAT);
        return to_node(ctx, config, packet, listener, ports[0], payload, left);
    }
reply:
    if (!may_be_node(packet->source) || packet->port_flags & PORT_CLIENTS)
        return XDP_PASS;
    clock = bpf_ktime_get_coarse_ns();
    reply = reply_at(config, packet->source, ports[0], packet->protocol, clock);
    if (reply && !is_martian(packet->family, packet->destination))
        return to_client(ctx, config, packet, reply, ports[1], payload, left, clock);
    return XDP_PASS;
}

#endif
