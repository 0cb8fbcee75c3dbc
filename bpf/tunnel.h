/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sending packets to nodes that answer clients by themselves: as they are but for the hop limit, or within a
 * header of their own (outer.h).
 */
#ifndef POINTSMAN_TUNNEL_H
#define POINTSMAN_TUNNEL_H

#include "frame.h"
#include "outer.h"
#include "pass_by.h"
#include "segment.h"

static __always_inline __u32 outer_bytes(const struct packet *packet, const struct node *node) {
    if (OUTER_KIND(node) == ENCAPSULATION_NONE)
        return 0;
    return outer_header_bytes(packet->family == 4, OUTER_KIND(node) == ENCAPSULATION_GUE);
}

static __always_inline bool lower_hop_limit(const struct packet *packet) {
    if (packet->family == 4) {
        struct iphdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return false;
        ip->ttl--;
        ip->check = checksum_update(ip->check, 0xfffe);
    } else {
        struct ipv6hdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return false;
        ip->hop_limit--;
    }
    return true;
}

/* Put the outer header before the packet, and the Ethernet header that came before that one. */
static __always_inline bool encapsulate(struct xdp_md *ctx, const struct packet *packet,
                                        const struct node *node, __u32 bytes, __u32 entropy) {
    __u8 *frame = (void *)(long)ctx->data, link[ETH_HLEN + 4 * VLAN_TAGS] = {};
    struct outer outer = {
        .source = node->outer,
        .destination = node->address,
        .port = OUTER_PORT(node),
        .gue = OUTER_KIND(node) == ENCAPSULATION_GUE,
        .length = packet->length,
        .entropy = entropy,
    };
    __u32 offset = ETH_HLEN + packet->tags;
    const __u8 *end;

    if (frame + sizeof(link) > (__u8 *)(long)ctx->data_end || packet->l3 + 2 > packet->end)
        return false;
    __builtin_memcpy(link, frame, sizeof(link));
    outer.class = traffic_class(packet->l3, packet->family == 4);
    if (bpf_xdp_adjust_head(ctx, -(int)bytes))
        return false;
    frame = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (frame + sizeof(link) > end)
        return false;
    __builtin_memcpy(frame, link, sizeof(link));
    frame += offset & 0x1f;
    return packet->family == 4 ? write_outer_ipv4(frame, end, &outer) : write_outer_ipv6(frame, end, &outer);
}

/* What cannot be sent on: requests are answered, later fragments and ICMP errors must not be. */
static __always_inline int refuse_passed(struct xdp_md *ctx, const struct config *config,
                                         const struct packet *packet, const struct scratch *note,
                                         enum listener_verdict verdict, __u32 mtu) {
    if (note->part == PASSED_REQUEST)
        return refuse(ctx, config, packet, note->counts, verdict, packet->destination, mtu);
    count_listener(config, note->counts, verdict, packet->length);
    return XDP_DROP;
}

static __always_inline void count_passed(const struct config *config, const struct packet *packet,
                                         const struct scratch *note, struct hot *hot_here, __u32 hot_index) {
    if (note->part == PASSED_REQUEST) {
        add(&hot_here->count[note->use & 3], packet->length);
        tell(config, EVENT_NODE | note->use, hot_index);
    } else {
        count_gateway(note->part == PASSED_FRAGMENT ? GATEWAY_FRAGMENT : GATEWAY_ICMP_ERROR, packet->length);
    }
}

SEC("xdp")
int pointsman_pass_by(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct packet packet = {};
    __u32 now = (__u32)bpf_jiffies64(), outer, length;
    enum way way = WAY_KNOWN;
    struct hot *hot_here;
    struct next_hop *hop;
    struct node *node;

    if (!config || !note || !read_noted(ctx, note, &packet))
        return XDP_ABORTED;
    node = AT(nodes, note->node);
    if (!node)
        return XDP_ABORTED;
    hot_here = hot_of(config, node->hot);
    if (!hot_here)
        return XDP_ABORTED;
    hop = &hot_here->hop;
    outer = outer_bytes(&packet, node);
    length = packet.length;
    if (!is_fresh(config, hop, packet.interface, now)) {
        const __be32 *source = outer ? node->outer : packet.source;

        hop->interface = 0;
        packet.length += outer;
        way = ask_way(ctx, config, &packet, source, node->address, hop, now);
        packet.length = length;
        /* Never to the kernel as it is: it has the address itself, and would answer. */
        if (way == WAY_NONE || way == WAY_NOT_OURS || way == WAY_ENCAPSULATED)
            return refuse_passed(ctx, config, &packet, note, LISTENER_NO_ROUTE, 0);
    }
    if (packet.hop_limit <= 1)
        return refuse_passed(ctx, config, &packet, note, LISTENER_HOP_LIMIT, 0);
    if (hop->mtu && length + outer > hop->mtu)
        return refuse_passed(ctx, config, &packet, note, LISTENER_TOO_BIG, hop->mtu - outer);
    count_passed(config, &packet, note, hot_here, node->hot);
    if (!lower_hop_limit(&packet))
        return XDP_ABORTED;
    if (note->part == PASSED_REQUEST && OUTER_CLAMPS(node) && hop->mtu)
        clamp_segments(&packet, hop->mtu - outer);
    if (outer && !encapsulate(ctx, &packet, node, outer, note->entropy))
        return XDP_DROP;
    if (way == WAY_KNOWN)
        return send_to(ctx, &packet, hop);
    count_gateway(GATEWAY_BY_KERNEL, length);
    note->reply = 1;
    note->interface = packet.out;
    __builtin_memset(note->neighbour, 0, sizeof(note->neighbour));
    if (!outer)
        __builtin_memcpy(note->neighbour, node->address, 16);
    ask_for(ctx, TAIL_BY_KERNEL);
    return XDP_DROP;
}

#endif
