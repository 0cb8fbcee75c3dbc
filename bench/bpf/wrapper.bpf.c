/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Puts a fresh packet in the place of what the last repeat of BPF_PROG_TEST_RUN left, and calls the program
 * under measurement: by a tail call, which comes back to nobody. `nothing` stands in for that program to tell
 * what the wrapper takes for itself.
 */
#include "rig.h"

#define TEMPLATE 256
#define PLACES 128 /* no field that varies stands behind */

/* Mirrors bench.cost._Template. Offsets are into the packet. */
struct template {
    __u64 next;  /* the number of this packet */
    __u64 flows; /* clients that take turns; 0: one that never comes again each time */
    __u32 len;
    __u32 client;   /* where the client's address ends, less 4 */
    __u32 port;     /* the client's */
    __u32 ip_check; /* 0: the family has none */
    __u32 l4_check;
    __u32 client_base;
    __u32 ip_sum; /* folded sums of what does not vary */
    __u32 l4_sum;
    __u8 bytes[TEMPLATE];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct template);
} packet SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} target SEC(".maps");

#define SPREAD 2654435761ULL /* as the generator's */

/* Write the packet's client into the template. */
static __always_inline int vary(struct template *t) {
    __u64 tuple = t->flows ? t->next * SPREAD % t->flows : (t->next * SPREAD) & ((1ULL << 37) - 1);
    __u32 client = bpf_htonl(t->client_base + ((tuple >> 4) & 0x3fffff));
    __be16 port = bpf_htons(1024 + ((tuple & 15) | ((tuple >> 26) & 0x7ff) << 4));
    __u16 check;

    if (t->client > PLACES || t->port > PLACES || t->ip_check > PLACES || t->l4_check > PLACES)
        return -1;
    __builtin_memcpy(&t->bytes[t->client], &client, 4);
    __builtin_memcpy(&t->bytes[t->port], &port, 2);
    if (t->ip_check) {
        check = checksum((__u64)t->ip_sum + client);
        __builtin_memcpy(&t->bytes[t->ip_check], &check, 2);
    }
    check = checksum((__u64)t->l4_sum + client + port);
    if (!check)
        check = 0xffff; /* as UDP has it; to TCP both are zero */
    __builtin_memcpy(&t->bytes[t->l4_check], &check, 2);
    t->next++;
    return 0;
}

SEC("xdp")
int wrapper(struct xdp_md *ctx) {
    __u32 zero = 0, len = ctx->data_end - ctx->data, meta = ctx->data - ctx->data_meta;
    __u64 size;
    struct template *t = bpf_map_lookup_elem(&packet, &zero);

    if (!t || vary(t))
        return XDP_ABORTED;
    if (meta && bpf_xdp_adjust_meta(ctx, (int)meta))
        return XDP_ABORTED;
    /* What was put before the packet goes. Nothing under measurement changes its end. */
    if (len != t->len && bpf_xdp_adjust_head(ctx, (int)(len - t->len)))
        return XDP_ABORTED;
    size = t->len;
    asm volatile("" : "+r"(size)); /* or the bounds are checked in another register than the one handed on */
    if (size < ETH_HLEN || size > TEMPLATE || bpf_xdp_store_bytes(ctx, 0, t->bytes, size))
        return XDP_ABORTED;
    bpf_tail_call(ctx, &target, 0);
    return XDP_ABORTED;
}

SEC("xdp")
int nothing(__attribute__((unused)) struct xdp_md *ctx) { return XDP_TX; }

char LICENSE[] SEC("license") = "Dual BSD/GPL";
