/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sink: counts what arrives, holds it against what its CID says (or which node had its flow
 * before), and drops it. It stands on both outer
 * veth ends: at the nodes' (forward) and at the clients' (replies), and gives these ends the NAPI that live
 * frames need.
 */
#include "rig.h"

#define SAMPLE                                                                                               \
    31 /* every 32nd packet's checksums are computed: seldom enough not to weigh on what is measured */

traffic_map;
flow_nodes_map;

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

/* What of a packet is looked at, whichever the family and the transport. */
struct packet {
    __u32 server[4];
    __be16 port; /* the server's */
    __u16 check;
    __u32 flow;
    __u32 named;  /* by the CID */
    __u64 l4_sum; /* of header, payload, length and protocol: with both addresses it is right if it folds to 0
                   */
};

static __always_inline __u64 words_sum(const __u32 *words, int count) {
    __u64 sum = 0;

#pragma unroll
    for (int i = 0; i < count; i++)
        sum += words[i];
    return sum;
}

static __always_inline int take_l4(const struct traffic *t, struct packet *p, void *l4, void *end,
                                   int sampled) {
    if (t->kind == KIND_TCP) {
        struct segment *s = l4;

        if ((void *)(&s->tcp + 1) > end)
            return -1;
        p->port = t->reply ? s->tcp.source : s->tcp.dest;
        p->flow = t->reply ? bpf_ntohl(s->tcp.ack_seq) - 1 : bpf_ntohl(s->tcp.seq) - !t->syn;
        if (s->tcp.syn != t->syn)
            return -1;
        if (t->syn)
            return 0;
        if ((void *)(s + 1) > end)
            return -1;
        p->check = s->tcp.check;
        if (sampled)
            p->l4_sum = words_sum(l4, sizeof(*s) / 4) + bpf_htons(sizeof(*s)) + bpf_htons(IPPROTO_TCP);
        return 0;
    }
    struct datagram *d = l4;

    if ((void *)(d + 1) > end)
        return -1;
    p->port = t->reply ? d->udp.source : d->udp.dest;
    p->flow = d->payload[3];
    p->named = d->payload[2] >> 24;
    p->check = d->udp.check;
    if (sampled)
        p->l4_sum = words_sum(l4, sizeof(*d) / 4) + bpf_htons(sizeof(*d)) + bpf_htons(IPPROTO_UDP);
    return 0;
}

/* Note or hold against what was noted which node has a flow; return whether it moved. */
static __always_inline int moved(const struct packet *p, __u32 node) {
    __u32 group = p->flow / FLOW_GROUP;
    struct flow_group *g = bpf_map_lookup_elem(&flow_nodes, &group);
    __u8 *noted;

    if (!g)
        return 0;
    noted = &g->node[p->flow % FLOW_GROUP];
    if (!*noted)
        *noted = node;
    return *noted != node;
}

/* Judge one packet by its server-side address: the node it reached, or the address a reply claims to be from.
 */
static __always_inline void judge(const struct traffic *t, struct counts *c, const struct packet *p,
                                  int sampled) {
    int words = t->family == 4 ? 1 : 4, last = words - 1;
    __u32 node;
    int right = 1;
    __u64 *at;

    if (t->reply && !t->direct) {
        for (int i = 0; i < 4; i++)
            right &= i >= words || p->server[i] == t->vip[i];
        c->misrouted += !right || p->port != t->vip_port;
        return;
    }
    for (int i = 0; i < 4; i++) {
        __u32 mask = i == last ? 0x00ffffff : 0xffffffff; /* the last byte is the node id */
        right &= i >= words || (p->server[i] & mask) == (t->node_base[i] & mask);
    }
    right &= p->port == t->node_port;
    node = (t->family == 4 ? p->server[0] : p->server[3]) >> 24;
    at = bpf_map_lookup_elem(&per_node, &node);
    if (at && right)
        ++*at;
    if (t->kind == KIND_CID)
        right &= node == p->named;
    else if (right && t->pattern == PATTERN_ESTABLISHED && (t->learn || sampled))
        /* Of every 32nd packet: the flows of a million clients are no small memory to touch. */
        c->moved += moved(p, node);
    c->misrouted += !right;
}

static __always_inline int take4(const struct traffic *t, struct counts *c, void *data, void *end) {
    struct head4 *f = data;
    struct packet p = {};
    int sampled = !(c->packets & SAMPLE) && !t->syn;

    if ((void *)(f + 1) > end || f->ip.ihl != 5)
        return -1;
    if (f->ip.protocol != (t->kind == KIND_TCP ? IPPROTO_TCP : IPPROTO_UDP) ||
        take_l4(t, &p, f + 1, end, sampled))
        return -1;
    p.server[0] = t->reply ? f->ip.saddr : f->ip.daddr;
    c->packets++;
    judge(t, c, &p, sampled);
    if (sampled) {
        const __u32 *ip = (const __u32 *)&f->ip;

        c->sampled++;
        c->bad += (t->kind != KIND_TCP && !p.check) || checksum(words_sum(ip, 5)) ||
                  checksum(p.l4_sum + words_sum(ip + 3, 2));
    }
    return 0;
}

static __always_inline int take6(const struct traffic *t, struct counts *c, void *data, void *end) {
    struct head6 *f = data;
    struct packet p = {};
    int sampled = !(c->packets & SAMPLE) && !t->syn;

    if ((void *)(f + 1) > end)
        return -1;
    if (f->ip.nexthdr != (t->kind == KIND_TCP ? IPPROTO_TCP : IPPROTO_UDP) ||
        take_l4(t, &p, f + 1, end, sampled))
        return -1;
    __builtin_memcpy(p.server, t->reply ? &f->ip.saddr : &f->ip.daddr, 16);
    c->packets++;
    judge(t, c, &p, sampled);
    if (sampled) {
        c->sampled++;
        c->bad +=
            (t->kind != KIND_TCP && !p.check) || checksum(p.l4_sum + words_sum((const __u32 *)&f->ip + 2, 8));
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
