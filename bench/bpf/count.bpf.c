/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts what arrives, and lets it pass: a veth's own counters take Ethernet headers in or not, as its
 * offloads are. */
#include "rig.h"

/* Mirrors bench.stacks.Arrived. */
struct arrived {
    __u64 packets;
    __u64 bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct arrived);
} arrived SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx) {
    __u32 zero = 0;
    struct arrived *a = bpf_map_lookup_elem(&arrived, &zero);

    if (a) {
        a->packets++;
        a->bytes += ctx->data_end - ctx->data;
    }
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
