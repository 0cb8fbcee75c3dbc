/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sink: counts what arrives, holds it against what its CID says, and drops it. It stands on both outer
 * veth ends: at the nodes' (forward) and at the clients' (replies), and gives these ends the NAPI that live
 * frames need.
 */
#include "rig.h"

#define SAMPLE                                                                                               \
    31 /* every 32nd packet's checksums are computed: seldom enough not to weigh on what is measured */

traffic_map;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct counts);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 256);
    __type(key, __u32);
    __type(value, __u64);
} per_node SEC(".maps");

/* The sum of a UDP header and payload; with the pseudo header added it is right if it folds to 0. */
static __always_inline __u64 udp_sum(const struct udphdr *udp) {
    const __u32 *words = (const __u32 *)udp;
    __u64 sum = (__u64)bpf_htons(UDP_LEN) + bpf_htons(IPPROTO_UDP);

#pragma unroll
    for (int i = 0; i < (int)(UDP_LEN / 4); i++)
        sum += words[i];
    return sum;
}

/* Judge one packet by its server-side address: the node it reached, or the address a reply claims to be from.
 */
static __always_inline void judge(const struct traffic *t, struct counts *c, const __u32 *server, __be16 port,
                                  const __u32 *payload) {
    int words = t->family == 4 ? 1 : 4, last = words - 1;
    __u32 named = payload[2] >> 24, node;
    int right = 1;
    __u64 *at;

    c->packets++;
    if (t->reply && !t->direct) {
        for (int i = 0; i < 4; i++)
            right &= i >= words || server[i] == t->vip[i];
        c->misrouted += !right || port != t->vip_port;
        return;
    }
    for (int i = 0; i < 4; i++) {
        __u32 mask = i == last ? 0x00ffffff : 0xffffffff; /* the last byte is the node id */
        right &= i >= words || (server[i] & mask) == (t->node_base[i] & mask);
    }
    node = (t->family == 4 ? server[0] : server[3]) >> 24;
    c->misrouted += !right || node != named || port != t->node_port;
    at = bpf_map_lookup_elem(&per_node, &node);
    if (at && right)
        ++*at;
}

static __always_inline int take4(const struct traffic *t, struct counts *c, void *data, void *end) {
    struct frame4 *f = data;
    __u32 server[4] = {};

    if ((void *)(f + 1) > end || f->ip.protocol != IPPROTO_UDP || f->ip.ihl != 5)
        return -1;
    server[0] = t->reply ? f->ip.saddr : f->ip.daddr;
    judge(t, c, server, t->reply ? f->udp.source : f->udp.dest, f->payload);
    if (!(c->packets & SAMPLE)) {
        const __u32 *ip = (const __u32 *)&f->ip;
        __u64 addresses = (__u64)ip[3] + ip[4];

        c->sampled++;
        c->bad += !f->udp.check || checksum((__u64)ip[0] + ip[1] + ip[2] + addresses) ||
                  checksum(udp_sum(&f->udp) + addresses);
    }
    return 0;
}

static __always_inline int take6(const struct traffic *t, struct counts *c, void *data, void *end) {
    struct frame6 *f = data;
    __u32 server[4];

    if ((void *)(f + 1) > end || f->ip.nexthdr != IPPROTO_UDP)
        return -1;
    __builtin_memcpy(server, t->reply ? &f->ip.saddr : &f->ip.daddr, 16);
    judge(t, c, server, t->reply ? f->udp.source : f->udp.dest, f->payload);
    if (!(c->packets & SAMPLE)) {
        const __u32 *ip = (const __u32 *)&f->ip;
        __u64 sum = udp_sum(&f->udp);

#pragma unroll
        for (int i = 2; i < 10; i++)
            sum += ip[i];
        c->sampled++;
        c->bad += !f->udp.check || checksum(sum);
    }
    return 0;
}

SEC("xdp")
int sink(struct xdp_md *ctx) {
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    __u32 zero = 0;
    struct traffic *t = bpf_map_lookup_elem(&traffic, &zero);
    struct counts *c = bpf_map_lookup_elem(&counts, &zero);
    int taken = -1;

    if (!t || !c || (void *)(eth + 1) > end)
        return XDP_DROP;
    if (t->family == 4 && eth->h_proto == bpf_htons(ETH_P_IP))
        taken = take4(t, c, data, end);
    else if (t->family == 6 && eth->h_proto == bpf_htons(ETH_P_IPV6))
        taken = take6(t, c, data, end);
    if (taken < 0)
        c->foreign++;
    return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
