/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ceiling: what the rig itself can do. Each frame goes out by the other interface with new Ethernet
 * addresses; nothing of it is looked at.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_helpers.h>

/* Mirrors bench.contenders._Hop. */
struct hop {
    __u32 ifindex;
    __u8 dst_mac[6];
    __u8 src_mac[6];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct hop);
} hop SEC(".maps");

SEC("xdp")
int ceiling(struct xdp_md *ctx) {
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = (void *)(long)ctx->data;
    __u32 zero = 0;
    struct hop *h = bpf_map_lookup_elem(&hop, &zero);

    if (!h || (void *)(eth + 1) > end)
        return XDP_DROP;
    __builtin_memcpy(eth->h_dest, h->dst_mac, ETH_ALEN);
    __builtin_memcpy(eth->h_source, h->src_mac, ETH_ALEN);
    return bpf_redirect(h->ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
