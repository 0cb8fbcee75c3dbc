/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet generator, run by BPF_PROG_TEST_RUN with live frames. The kernel hands it the same pages again
 * and again, as the gateway and the sink left them, so it writes every byte that either may have changed.
 */
#include "rig.h"

traffic_map;

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

/* Write ports, payload and checksum; sum is that of both addresses. */
static __always_inline void finish(const struct traffic *t, const struct choice *c, struct udphdr *udp,
                                   __u32 *payload, __u64 sum) {
    __be16 server = t->reply || t->direct ? t->node_port : t->vip_port;
    __u16 check;

    udp->source = t->reply ? server : c->port;
    udp->dest = t->reply ? c->port : server;
    udp->len = bpf_htons(UDP_LEN);
    payload[0] = t->head[0];
    payload[1] = t->head[1];
    payload[2] = t->head[2] | c->node << 24; /* byte 11: the CID's first */
    payload[3] = c->device;
    sum += t->payload_sum + ((__u64)c->node << 24) + c->device;
    sum += (__u64)c->port + server;
    sum += (__u64)bpf_htons(UDP_LEN) * 2 + bpf_htons(IPPROTO_UDP);
    check = checksum(sum);
    udp->check = check ? check : 0xffff;
}

static __always_inline void ethernet(const struct traffic *t, struct ethhdr *eth, __be16 proto) {
    __builtin_memcpy(eth->h_dest, t->dst_mac, ETH_ALEN);
    __builtin_memcpy(eth->h_source, t->src_mac, ETH_ALEN);
    eth->h_proto = proto;
}

static __always_inline int send4(const struct traffic *t, const struct choice *c, void *data, void *end) {
    struct frame4 *f = data;
    __u32 client = bpf_htonl(bpf_ntohl(t->client_base[0]) + c->client);
    __u32 node = t->node_base[0] | c->node << 24;
    __u32 server = t->reply || t->direct ? node : t->vip[0];
    __u32 first, third;

    if ((void *)(f + 1) > end)
        return XDP_ABORTED;
    ethernet(t, &f->eth, bpf_htons(ETH_P_IP));
    first = bpf_htonl(0x45000000 | (sizeof(f->ip) + UDP_LEN));
    third = bpf_htonl(64 << 24 | IPPROTO_UDP << 16);
    f->ip.version = 4;
    f->ip.ihl = 5;
    f->ip.tos = 0;
    f->ip.tot_len = bpf_htons(sizeof(f->ip) + UDP_LEN);
    f->ip.id = 0;
    f->ip.frag_off = bpf_htons(0x4000);
    f->ip.ttl = 64;
    f->ip.protocol = IPPROTO_UDP;
    f->ip.saddr = t->reply ? server : client;
    f->ip.daddr = t->reply ? client : server;
    f->ip.check = checksum((__u64)first + bpf_htonl(0x4000) + third + client + server);
    finish(t, c, &f->udp, f->payload, (__u64)client + server);
    return XDP_TX;
}

static __always_inline int send6(const struct traffic *t, const struct choice *c, void *data, void *end) {
    struct frame6 *f = data;
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
    f->ip.payload_len = bpf_htons(UDP_LEN);
    f->ip.nexthdr = IPPROTO_UDP;
    f->ip.hop_limit = 64;
    __builtin_memcpy(&f->ip.saddr, t->reply ? server : client, 16);
    __builtin_memcpy(&f->ip.daddr, t->reply ? client : server, 16);
    finish(t, c, &f->udp, f->payload, sum);
    return XDP_TX;
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
    return t->family == 4 ? send4(t, &c, data, end) : send6(t, &c, data, end);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
