/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet generator, run by BPF_PROG_TEST_RUN with live frames. The kernel hands it the same pages again
 * and again, as the gateway and the sink left them, so it writes every byte that either may have changed.
 */
#include "rig.h"

traffic_map;
flow_nodes_map; /* the sink's of the same end: a reply comes from the node that has the flow */

/*
 * Where the generator stands, and when it began and last looked at the clock. The time of the system call
 * that runs it is no measure: the kernel spends some 20 ms of each on waiting for its page pool's readers.
 * Per CPU, so that nothing bounces. Mirrors bench.traffic.Progress.
 */
struct progress {
    __u64 next;
    __u64 began;
    __u64 seen;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct progress);
} progress SEC(".maps");

#define CLOCK 63 /* the clock is read with every 64th packet: 20 ns each time */

struct choice {
    __u32 client;
    __be16 port;
    __u32 node;
    __u32 device; /* makes the rest of the CID differ from device to device */
};

#define SPREAD                                                                                               \
    2654435761ULL /* a prime: times it modulo F is a permutation, so flows do not come in memory order */

static __always_inline struct choice choose(const struct traffic *t, __u64 n) {
    __u64 tuple;
    struct choice c;

    if (t->pattern == PATTERN_NEW) {
        tuple = (n * SPREAD) & ((1ULL << 37) - 1); /* an odd factor: no value comes twice in 2^37 */
        c.device = n;
        c.node = 1 + n % t->nodes;
    } else {
        tuple = (n * SPREAD) % t->flows;
        if (t->pattern == PATTERN_REUSED) {
            c.device = n;
            c.node = 1 + (n + n / t->flows) % t->nodes;
        } else {
            c.device = tuple;
            c.node = 1 + tuple % t->nodes;
        }
    }
    c.client = (tuple >> 4) & 0x3fffff;
    c.port = bpf_htons(1024 + ((tuple & 15) | ((tuple >> 26) & 0x7ff) << 4));
    return c;
}

/* Which node a flow's reply comes from: it is not the generator that chose it. */
static __always_inline void find_node(struct choice *c) {
    __u32 group = c->device / FLOW_GROUP;
    struct flow_group *g = bpf_map_lookup_elem(&flow_nodes, &group);
    __u8 node = g ? g->node[c->device % FLOW_GROUP] : 0;

    if (node)
        c->node = node;
}

/* Return the sum of what differs from the template. */
static __always_inline __u64 write_payload(const struct traffic *t, const struct choice *c, __u32 *payload) {
    __u32 named = t->kind == KIND_CID ? c->node << 24 : 0; /* byte 11: the CID's first */
    __u32 device = t->kind == KIND_HELLO ? 0 : c->device;

    payload[0] = t->head[0];
    payload[1] = t->head[1];
    payload[2] = t->head[2] | named;
    payload[3] = t->head[3] | device;
    return (__u64)named + device;
}

/* Write ports, payload and checksum; sum is that of both addresses. */
static __always_inline int finish_udp(const struct traffic *t, const struct choice *c, void *l4, void *end,
                                      __u64 sum) {
    __be16 server = t->reply || t->direct ? t->node_port : t->vip_port;
    struct datagram *d = l4;
    __u16 check;

    if ((void *)(d + 1) > end)
        return XDP_ABORTED;
    d->udp.source = t->reply ? server : c->port;
    d->udp.dest = t->reply ? c->port : server;
    d->udp.len = bpf_htons(sizeof(*d));
    sum += t->payload_sum + write_payload(t, c, d->payload);
    sum += (__u64)c->port + server;
    sum += (__u64)bpf_htons(sizeof(*d)) * 2 + bpf_htons(IPPROTO_UDP);
    check = checksum(sum);
    d->udp.check = check ? check : 0xffff;
    return XDP_TX;
}

/* The flow's number is in the client's sequence numbers, so that a SYN says it too. */
static __always_inline int finish_tcp(const struct traffic *t, const struct choice *c, void *l4, void *end,
                                      __u64 sum) {
    __be16 server = t->reply || t->direct ? t->node_port : t->vip_port;
    struct tcphdr *tcp = l4;
    __u32 *words = l4;

    if ((void *)(tcp + 1) > end)
        return XDP_ABORTED;
    tcp->source = t->reply ? server : c->port;
    tcp->dest = t->reply ? c->port : server;
    words[3] = 0;
    words[4] = 0;
    tcp->doff = sizeof(*tcp) / 4;
    tcp->window = bpf_htons(0xffff);
    if (t->reply) {
        tcp->seq = bpf_htonl(TCP_ISN + !t->syn);
        tcp->ack_seq = bpf_htonl(c->device + 1);
        tcp->ack = 1;
    } else {
        tcp->seq = bpf_htonl(c->device + !t->syn);
        tcp->ack_seq = t->syn ? 0 : bpf_htonl(TCP_ISN + 1);
        tcp->ack = !t->syn;
    }
    tcp->syn = t->syn;
    tcp->psh = !t->syn;
    if (!t->syn) {
        struct segment *s = l4;

        if ((void *)(s + 1) > end)
            return XDP_ABORTED;
        sum += t->payload_sum + write_payload(t, c, s->payload);
    }
    sum += (__u64)bpf_htons(l4_len(t)) + bpf_htons(IPPROTO_TCP);
#pragma unroll
    for (int i = 0; i < 5; i++)
        sum += words[i];
    tcp->check = checksum(sum);
    return XDP_TX;
}

static __always_inline void ethernet(const struct traffic *t, struct ethhdr *eth, __be16 proto) {
    __builtin_memcpy(eth->h_dest, t->dst_mac, ETH_ALEN);
    __builtin_memcpy(eth->h_source, t->src_mac, ETH_ALEN);
    eth->h_proto = proto;
}

static __always_inline int finish(const struct traffic *t, const struct choice *c, void *l4, void *end,
                                  __u64 sum) {
    return t->kind == KIND_TCP ? finish_tcp(t, c, l4, end, sum) : finish_udp(t, c, l4, end, sum);
}

static __always_inline int send4(const struct traffic *t, const struct choice *c, void *data, void *end) {
    struct head4 *f = data;
    __u32 protocol = t->kind == KIND_TCP ? IPPROTO_TCP : IPPROTO_UDP, len = sizeof(f->ip) + l4_len(t);
    __u32 client = bpf_htonl(bpf_ntohl(t->client_base[0]) + c->client);
    __u32 node = t->node_base[0] | c->node << 24;
    __u32 server = t->reply || t->direct ? node : t->vip[0];
    __u32 first, third;

    if ((void *)(f + 1) > end)
        return XDP_ABORTED;
    ethernet(t, &f->eth, bpf_htons(ETH_P_IP));
    first = bpf_htonl(0x45000000 | len);
    third = bpf_htonl(64 << 24 | protocol << 16);
    f->ip.version = 4;
    f->ip.ihl = 5;
    f->ip.tos = 0;
    f->ip.tot_len = bpf_htons(len);
    f->ip.id = 0;
    f->ip.frag_off = bpf_htons(0x4000);
    f->ip.ttl = 64;
    f->ip.protocol = protocol;
    f->ip.saddr = t->reply ? server : client;
    f->ip.daddr = t->reply ? client : server;
    f->ip.check = checksum((__u64)first + bpf_htonl(0x4000) + third + client + server);
    return finish(t, c, f + 1, end, (__u64)client + server);
}

static __always_inline int send6(const struct traffic *t, const struct choice *c, void *data, void *end) {
    struct head6 *f = data;
    __u32 client[4], server[4];
    __u64 sum = 0;

    if ((void *)(f + 1) > end)
        return XDP_ABORTED;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        client[i] = t->client_base[i];
        server[i] = t->reply || t->direct ? t->node_base[i] : t->vip[i];
    }
    client[3] |= bpf_htonl(c->client);
    if (t->reply || t->direct)
        server[3] |= c->node << 24;
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum += (__u64)client[i] + server[i];
    ethernet(t, &f->eth, bpf_htons(ETH_P_IPV6));
    *(__u32 *)&f->ip = bpf_htonl(6U << 28);
    f->ip.payload_len = bpf_htons(l4_len(t));
    f->ip.nexthdr = t->kind == KIND_TCP ? IPPROTO_TCP : IPPROTO_UDP;
    f->ip.hop_limit = 64;
    __builtin_memcpy(&f->ip.saddr, t->reply ? server : client, 16);
    __builtin_memcpy(&f->ip.daddr, t->reply ? client : server, 16);
    return finish(t, c, f + 1, end, sum);
}

SEC("xdp")
int generate(struct xdp_md *ctx) {
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    __u32 zero = 0;
    struct traffic *t = bpf_map_lookup_elem(&traffic, &zero);
    struct progress *p = bpf_map_lookup_elem(&progress, &zero);
    struct choice c;

    if (!t || !p || !t->flows || !t->nodes)
        return XDP_ABORTED;
    if (!(p->next & CLOCK)) {
        p->seen = bpf_ktime_get_ns();
        if (!p->began)
            p->began = p->seen;
    }
    c = choose(t, p->next++);
    if (t->reply && t->kind != KIND_CID)
        find_node(&c);
    return t->family == 4 ? send4(t, &c, data, end) : send6(t, &c, data, end);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
