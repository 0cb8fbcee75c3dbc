/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sending packets to nodes that answer clients by themselves: as they are but for the hop limit, or within a
 * header of their own: IPIP (RFC 2003), IP6IP6 (RFC 2473), or GUE's variant 1, an IP packet right behind a
 * UDP header (draft-ietf-intarea-gue section 4).
 */
#ifndef POINTSMAN_TUNNEL_H
#define POINTSMAN_TUNNEL_H

#include "frame.h"
#include "pass_by.h"
#include "segment.h"

#define OUTER_HOPS 64
#define GUE_HEADER 8
#define GUE_PORTS 0xc000 /* the ports that the outer source is one of, by the flow: the dynamic ones */

static __always_inline __u32 outer_bytes(const struct packet *packet, const struct node *node) {
    __u32 bytes = packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

    if (OUTER_KIND(node) == ENCAPSULATION_NONE)
        return 0;
    return OUTER_KIND(node) == ENCAPSULATION_GUE ? bytes + GUE_HEADER : bytes;
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

/* The checksum is none, as RFC 6935 lets tunnels do: what is inside has its own. */
static __always_inline bool write_gue(void *at, const void *end, const struct node *node, __u32 length,
                                      __u32 entropy) {
    __be16 *udp = at;

    if ((const void *)(udp + 4) > end)
        return false;
    udp[0] = swap16((__u16)(GUE_PORTS | (entropy & 0x3fff)));
    udp[1] = OUTER_PORT(node);
    udp[2] = swap16((__u16)(length + GUE_HEADER));
    udp[3] = 0;
    return true;
}

/* `tos` goes outside as it is, congestion marks too (RFC 6040 section 4.1). */
static __always_inline bool write_outer_ipv4(void *at, const void *end, const struct node *node, __u32 length,
                                             __u8 tos, __u32 entropy) {
    bool gue = OUTER_KIND(node) == ENCAPSULATION_GUE;
    struct iphdr *ip = at;

    if ((const void *)(ip + 1) > end)
        return false;
    *(__u32 *)ip = 0;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = tos;
    ip->tot_len = swap16((__u16)(length + sizeof(*ip) + (gue ? GUE_HEADER : 0)));
    ip->id = 0;
    ip->frag_off = swap16(0x4000); /* what does not fit is answered, never cut up */
    ip->ttl = OUTER_HOPS;
    ip->protocol = gue ? IPPROTO_UDP : IPPROTO_IPIP;
    ip->check = 0;
    ip->saddr = node->outer[3];
    ip->daddr = node->address[3];
    ip->check = (__u16)~ipv4_header_sum(ip);
    return !gue || write_gue(ip + 1, end, node, length, entropy);
}

static __always_inline bool write_outer_ipv6(void *at, const void *end, const struct node *node, __u32 length,
                                             __u8 traffic_class, __u32 entropy) {
    bool gue = OUTER_KIND(node) == ENCAPSULATION_GUE;
    struct ipv6hdr *ip = at;

    if ((const void *)(ip + 1) > end)
        return false;
    /* Version, class, and a flow label by the flow (RFC 6438). */
    *(__be32 *)ip = __builtin_bswap32(6u << 28 | (__u32)traffic_class << 20 | (entropy & 0xfffff));
    ip->payload_len = swap16((__u16)(length + (gue ? GUE_HEADER : 0)));
    ip->nexthdr = gue ? IPPROTO_UDP : IPPROTO_IPV6;
    ip->hop_limit = OUTER_HOPS;
    __builtin_memcpy(&ip->saddr, node->outer, 16);
    __builtin_memcpy(&ip->daddr, node->address, 16);
    return !gue || write_gue(ip + 1, end, node, length, entropy);
}

/* Put the outer header before the packet, and the Ethernet header that came before that one. */
static __always_inline bool encapsulate(struct xdp_md *ctx, const struct packet *packet,
                                        const struct node *node, __u32 bytes, __u32 entropy) {
    __u8 *frame = (void *)(long)ctx->data, link[ETH_HLEN + 4 * VLAN_TAGS] = {}, class;
    __u32 offset = ETH_HLEN + packet->tags;
    const __u8 *end;

    if (frame + sizeof(link) > (__u8 *)(long)ctx->data_end || packet->l3 + 2 > packet->end)
        return false;
    __builtin_memcpy(link, frame, sizeof(link));
    class = packet->family == 4 ? load8(packet->l3 + 1) : (__u8)(load16(packet->l3) >> 4);
    if (bpf_xdp_adjust_head(ctx, -(int)bytes))
        return false;
    frame = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (frame + sizeof(link) > end)
        return false;
    __builtin_memcpy(frame, link, sizeof(link));
    frame += offset & 0x1f;
    return packet->family == 4 ? write_outer_ipv4(frame, end, node, packet->length, class, entropy)
                               : write_outer_ipv6(frame, end, node, packet->length, class, entropy);
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
