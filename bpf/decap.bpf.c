// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The node's end of tunnels, where the kernel has none: takes off what bpf/tunnel.h has put before a packet.
 * Only what comes from a gateway, to this node, for a VIP that it has; everything else is the kernel's as it
 * is.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_helpers.h>

#include "lib/bytes.h"
#include "lib/checksum.h"

#define UDP_HEADER 8
#define CONGESTION 3 /* the two bits of ECN; all ones: congestion experienced (RFC 3168) */

/* plan/node_setup.py packs it. */
struct accepted {
    __be32 source[4];
    __be32 destination[4];
    __be32 vip[4];
    __be16 port; /* GUE's, 0: none */
    __u16 zero;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct accepted);
    __type(value, __u64); /* packets */
} accepted SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void map_ipv4(__be32 address[4], __be32 ipv4) {
    address[0] = 0;
    address[1] = 0;
    address[2] = __builtin_bswap32(0xffff);
    address[3] = ipv4;
}

/* The size of the outer headers, 0 where it is no tunnel's packet. */
static __always_inline __u32 read_outer(const __u8 *l3, const __u8 *end, bool ipv4, struct accepted *key,
                                        __u8 *class) {
    const __u8 *rest;
    __u32 size;
    __u8 protocol;

    if (ipv4) {
        const struct iphdr *ip = (const void *)l3;

        if ((const __u8 *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->frag_off & swap16(0x3fff))
            return 0;
        map_ipv4(key->source, ip->saddr);
        map_ipv4(key->destination, ip->daddr);
        protocol = ip->protocol;
        size = sizeof(*ip);
        *class = ip->tos;
    } else {
        const struct ipv6hdr *ip = (const void *)l3;

        if ((const __u8 *)(ip + 1) > end || ip->version != 6)
            return 0;
        __builtin_memcpy(key->source, &ip->saddr, 16);
        __builtin_memcpy(key->destination, &ip->daddr, 16);
        protocol = ip->nexthdr;
        size = sizeof(*ip);
        *class = (__u8)(load16(l3) >> 4);
    }
    if (protocol == (ipv4 ? IPPROTO_IPIP : IPPROTO_IPV6))
        return size;
    rest = l3 + size;
    if (protocol != IPPROTO_UDP || rest + UDP_HEADER > end)
        return 0;
    key->port = LOAD(__be16, rest + 2);
    return size + UDP_HEADER;
}

/* Congestion that the tunnel met is told inside; false where the inner packet must not go on (RFC 6040). */
static __always_inline bool tell_congestion(__u8 *inner, __u8 *end, bool ipv4, __u8 class) {
    if (ipv4) {
        struct iphdr *ip = (void *)inner;
        __u16 before, after;

        if ((__u8 *)(ip + 1) > end)
            return false;
        if ((class & CONGESTION) != CONGESTION || (ip->tos & CONGESTION) == CONGESTION)
            return true;
        if (!(ip->tos & CONGESTION))
            return false;
        before = LOAD(__u16, inner);
        ip->tos |= CONGESTION;
        after = LOAD(__u16, inner);
        ip->check = checksum_update(ip->check, delta16(before, after));
        return true;
    }
    if (inner + sizeof(struct ipv6hdr) > end)
        return false;
    if ((class & CONGESTION) != CONGESTION || (inner[1] >> 4 & CONGESTION) == CONGESTION)
        return true;
    if (!(inner[1] >> 4 & CONGESTION))
        return false;
    inner[1] |= CONGESTION << 4;
    return true;
}

SEC("xdp")
int pointsman_decap(struct xdp_md *ctx) {
    __u8 *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *l3, *inner;
    struct ethhdr *ethernet = (void *)frame, link;
    struct accepted key = {};
    __u32 outer;
    __u64 *packets;
    __u8 class = 0;
    bool ipv4;

    if ((__u8 *)(ethernet + 1) > end)
        return XDP_PASS;
    ipv4 = ethernet->h_proto == swap16(ETH_P_IP);
    if (!ipv4 && ethernet->h_proto != swap16(ETH_P_IPV6))
        return XDP_PASS;
    l3 = frame + ETH_HLEN;
    outer = read_outer(l3, end, ipv4, &key, &class);
    if (!outer)
        return XDP_PASS;
    inner = l3 + (outer & 0x3f);
    if (ipv4) {
        struct iphdr *ip = (void *)inner;

        if ((__u8 *)(ip + 1) > end || ip->version != 4)
            return XDP_PASS;
        map_ipv4(key.vip, ip->daddr);
    } else {
        struct ipv6hdr *ip = (void *)inner;

        if ((__u8 *)(ip + 1) > end || ip->version != 6)
            return XDP_PASS;
        __builtin_memcpy(key.vip, &ip->daddr, 16);
    }
    packets = bpf_map_lookup_elem(&accepted, &key);
    if (!packets)
        return XDP_PASS;
    __sync_fetch_and_add(packets, 1);
    if (!tell_congestion(inner, end, ipv4, class))
        return XDP_DROP;
    link = *ethernet;
    if (bpf_xdp_adjust_head(ctx, (int)outer))
        return XDP_DROP;
    ethernet = (void *)(long)ctx->data;
    if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    *ethernet = link;
    return XDP_PASS;
}
