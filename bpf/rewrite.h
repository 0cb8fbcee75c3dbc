/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changing addresses, ports, checksums, hop limit and the Ethernet header. */
#ifndef POINTSMAN_REWRITE_H
#define POINTSMAN_REWRITE_H

#include "next_hop.h"

#define UDP_CHECKSUM 6
#define TCP_CHECKSUM 16

/* The sum of changes of 16 bytes of address, to one. */
static __always_inline __u32 address_delta(const __be32 from[4], const __be32 to[4]) {
    __u32 delta = 0;

#pragma unroll
    for (int word = 0; word < 4; word++)
        delta += delta32(from[word], to[word]);
    return delta;
}

/* Put the address into the IP header, in the source's place for a reply, and take `hops` (0, 1) from the hop
 * limit. */
static __always_inline void rewrite_l3(const struct packet *packet, const __be32 *address, __u32 l3_delta,
                                       __u32 hops) {
    if (packet->family == 4) {
        struct iphdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return;
        if (packet->reply)
            ip->saddr = address[3];
        else
            ip->daddr = address[3];
        ip->ttl -= hops;
        /* The hop limit is the low byte of its word in memory: one less is 0xfffe in a delta. */
        ip->check = checksum_update(ip->check, l3_delta + 0xfffe * hops);
    } else {
        struct ipv6hdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return;
        if (packet->reply)
            __builtin_memcpy(&ip->saddr, address, 16);
        else
            __builtin_memcpy(&ip->daddr, address, 16);
        ip->hop_limit -= hops;
    }
}

/* Put both addresses in, and take one from the hop limit. */
static __always_inline void rewrite_addresses(const struct packet *packet, const __be32 *source,
                                              const __be32 *destination) {
    if (packet->family == 4) {
        struct iphdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return;
        ip->check = checksum_update(ip->check, delta32(ip->saddr, source[3]) +
                                                   delta32(ip->daddr, destination[3]) + 0xfffe);
        ip->saddr = source[3];
        ip->daddr = destination[3];
        ip->ttl -= 1;
    } else {
        struct ipv6hdr *ip = packet->l3;

        if ((void *)(ip + 1) > packet->end)
            return;
        __builtin_memcpy(&ip->saddr, source, 16);
        __builtin_memcpy(&ip->daddr, destination, 16);
        ip->hop_limit -= 1;
    }
}

/* Ports and checksum; false where the header is cut off. */
static __always_inline bool rewrite_l4(const struct packet *packet, __be16 port, __u32 l4_delta) {
    __u8 *l4 = packet->l4;
    __be16 *ports = packet->l4;

    if (packet->protocol == IPPROTO_UDP) {
        __be16 *checksum = (__be16 *)(l4 + UDP_CHECKSUM);

        if (l4 + 8 > (__u8 *)packet->end)
            return false;
        *checksum = udp_checksum_update(*checksum, l4_delta);
    } else {
        __be16 *checksum = (__be16 *)(l4 + TCP_CHECKSUM);

        if (l4 + 20 > (__u8 *)packet->end)
            return false;
        *checksum = checksum_update(*checksum, l4_delta);
    }
    ports[packet->reply ? 0 : 1] = port;
    return true;
}

static __always_inline int send_back(struct xdp_md *ctx, __u32 port_flags) {
    return port_flags & PORT_SLOW_TX ? (int)bpf_redirect(ctx->ingress_ifindex, 0) : XDP_TX;
}

/* Address the frame to its next hop, with the VLAN tag of that link, and send it. */
static __always_inline int send_to(struct xdp_md *ctx, const struct packet *packet,
                                   const struct next_hop *hop) {
    __u32 tags = hop->vlan ? 4 : 0;
    __u8 *frame = (void *)(long)ctx->data;
    struct ethhdr *ethernet;

    if (unlikely(tags != packet->tags)) {
        if (bpf_xdp_adjust_head(ctx, (int)packet->tags - (int)tags))
            return XDP_DROP;
        frame = (void *)(long)ctx->data;
    }
    if (frame + ETH_HLEN + 4 > (__u8 *)(long)ctx->data_end)
        return XDP_DROP;
    ethernet = (void *)frame;
    __builtin_memcpy(ethernet->h_dest, hop->destination, 6);
    __builtin_memcpy(ethernet->h_source, hop->source, 6);
    ethernet->h_proto = packet->ether_type;
    if (unlikely(tags)) {
        ethernet->h_proto = swap16(ETH_P_8021Q);
        *(__be16 *)(frame + 14) = swap16(hop->vlan);
        *(__be16 *)(frame + 16) = packet->ether_type;
    }
    if (hop->interface == ctx->ingress_ifindex)
        return send_back(ctx, packet->port_flags);
    return (int)bpf_redirect(hop->interface, 0);
}

#endif
