// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Health checks of nodes that have a tunnel: puts before what a check sends the header that bpf/tunnel.h puts
 * before clients' packets. The destination is the VIP here, as netfilter's egress hook comes before tc's; the
 * link's header is that of the way to the node. Only what sockets of this machine send, from a port of ours.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "outer.h"

/* health/through_tunnel.py packs both. */
struct asked {
    __be32 vip[4];
    __be16 port; /* the check's own */
    __u16 zero;
};

struct way {
    __be32 source[4];
    __be32 node[4];
    __be16 port; /* GUE's, 0: none */
    __u16 zero;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct asked);
    __type(value, struct way);
} ways SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whom the packet asks, and what the outer header takes from it; false where it is no check's. */
static __always_inline bool read_inner(struct __sk_buff *skb, bool ipv4, struct asked *asked,
                                       struct outer *outer) {
    __u32 at;
    __u8 protocol;

    if (ipv4) {
        struct iphdr ip;

        if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.frag_off & swap16(0x1fff))
            return false;
        asked->vip[2] = bpf_htonl(0xffff);
        asked->vip[3] = ip.daddr;
        outer->length = swap16(ip.tot_len);
        outer->class = traffic_class(&ip, true);
        protocol = ip.protocol;
        at = ip.ihl * 4;
    } else {
        struct ipv6hdr ip;

        if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
            return false;
        __builtin_memcpy(asked->vip, &ip.daddr, 16);
        outer->length = swap16(ip.payload_len) + sizeof(ip);
        outer->class = traffic_class(&ip, false);
        protocol = ip.nexthdr;
        at = sizeof(ip);
    }
    if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
        return false;
    return !bpf_skb_load_bytes(skb, ETH_HLEN + at, &asked->port, sizeof(asked->port));
}

SEC("tc")
int pointsman_check(struct __sk_buff *skb) {
    bool ipv4 = skb->protocol == bpf_htons(ETH_P_IP);
    struct outer outer = {};
    struct asked asked = {};
    const struct way *way;
    __u64 flags;
    __u8 *frame;

    /* What clients have sent has no socket here, whatever its port. */
    if (!skb->sk || (!ipv4 && skb->protocol != bpf_htons(ETH_P_IPV6)))
        return TC_ACT_UNSPEC;
    if (!read_inner(skb, ipv4, &asked, &outer))
        return TC_ACT_UNSPEC;
    way = bpf_map_lookup_elem(&ways, &asked);
    if (!way)
        return TC_ACT_UNSPEC;
    outer.source = way->source;
    outer.destination = way->node;
    outer.port = way->port;
    outer.gue = way->port;
    outer.entropy = swap16(asked.port);
    /* So the kernel cuts large packets up, and finishes checksums, inside. */
    flags = ipv4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
    if (outer.gue)
        flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
    /* Never to the VIP as it is: somebody else may have it. */
    if (bpf_skb_adjust_room(skb, outer_header_bytes(ipv4, outer.gue), BPF_ADJ_ROOM_MAC, flags))
        return TC_ACT_SHOT;
    frame = (void *)(long)skb->data + ETH_HLEN;
    if (!(ipv4 ? write_outer_ipv4(frame, (void *)(long)skb->data_end, &outer)
               : write_outer_ipv6(frame, (void *)(long)skb->data_end, &outer)))
        return TC_ACT_SHOT;
    return TC_ACT_UNSPEC;
}
