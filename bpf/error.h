/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors of the gateway's own, and handing packets to the kernel that it has to send on. */
#ifndef POINTSMAN_ERROR_H
#define POINTSMAN_ERROR_H

#include <linux/pkt_cls.h>

#include "frame.h"
#include "handle.h"

/* RFC 792, RFC 4443 section 2.1 */
struct icmp {
    __u8 type;
    __u8 code;
    __be16 checksum;
    __be32 rest; /* the next hop's MTU, or unused */
};

#define ICMP_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3

#define QUOTE 256 /* bytes at most; RFC 792 asks for 28 at least, RFC 1812 for more where it is cheap */
#define QUOTE_LEAST 28
#define LINK_MOST (ETH_HLEN + 4 * VLAN_TAGS)
#define ICMP_BYTES 8
#define TOKEN_SHIFT 20
#define BURST_SECONDS_SHIFT 3 /* a bucket holds an eighth of a second's tokens */
#define META_MAGIC 0x706d6b6eu

/* Whether the rate of errors leaves room for one more (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4). */
static __always_inline bool take_token(const struct config *config, struct scratch *note) {
    __u64 now = bpf_ktime_get_coarse_ns(), passed = now - note->refilled;
    __u64 most = ((__u64)config->icmp_rate << TOKEN_SHIFT >> BURST_SECONDS_SHIFT) + (1ull << TOKEN_SHIFT);

    if (passed > 1000000000ull)
        passed = 1000000000ull;
    note->tokens += (passed >> 10) * config->icmp_rate * ((1ull << TOKEN_SHIFT) / 976562);
    note->refilled = now;
    if (note->tokens > most)
        note->tokens = most;
    if (note->tokens < 1ull << TOKEN_SHIFT)
        return false;
    note->tokens -= 1ull << TOKEN_SHIFT;
    return true;
}

/* Sum `quote` bytes, a multiple of 4. */
static __always_inline bool sum_quote(const __u8 *from, const __u8 *end, __u32 quote, __u64 *sum) {
    __u64 total = 0;

    for (__u32 at = 0; at < QUOTE; at += 4, from += 4) {
        OPAQUE(from); /* the verifier takes no arithmetic on `end`, which clang would compare with */
        if (at >= quote)
            break;
        if (from + 4 > end)
            return false;
        total += LOAD(__u32, from);
    }
    *sum = total;
    return true;
}

static __always_inline __u32 fold64(__u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    return (__u32)((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32));
}

static __always_inline int answer_ipv4(const struct scratch *note, __u8 *l3, __u8 *end, __u32 quote) {
    struct iphdr *ip = (void *)l3;
    struct icmp *icmp = (void *)(ip + 1);
    struct iphdr *quoted = (void *)icmp + ICMP_BYTES;

    if ((__u8 *)(quoted + 1) > end)
        return XDP_DROP;
    *(__u32 *)ip = 0;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = 0xc0; /* internetwork control, RFC 1812 section 4.3.2.5 */
    ip->tot_len = swap16((__u16)(sizeof(*ip) + ICMP_BYTES + quote));
    ip->id = 0;
    ip->frag_off = 0;
    ip->ttl = 64;
    ip->protocol = IPPROTO_ICMP;
    ip->check = 0;
    ip->saddr = note->source[3];
    ip->daddr = quoted->saddr;
    ip->check = (__u16)~ipv4_header_sum(ip);
    icmp->type = note->kind == ERROR_TOO_BIG ? ICMP_UNREACHABLE : ICMP_TIME_EXCEEDED;
    icmp->code = note->kind == ERROR_TOO_BIG ? ICMP_FRAGMENTATION_NEEDED : 0;
    icmp->checksum = 0;
    icmp->rest = note->kind == ERROR_TOO_BIG ? __builtin_bswap32(note->mtu & 0xffff) : 0;
    return 0;
}

static __always_inline int answer_ipv6(const struct scratch *note, __u8 *l3, __u8 *end, __u32 quote) {
    struct ipv6hdr *ip = (void *)l3;
    struct icmp *icmp = (void *)(ip + 1);
    struct ipv6hdr *quoted = (void *)icmp + ICMP_BYTES;

    if ((__u8 *)(quoted + 1) > end)
        return XDP_DROP;
    *(__u32 *)ip = 0;
    ip->version = 6;
    ip->payload_len = swap16((__u16)(ICMP_BYTES + quote));
    ip->nexthdr = IPPROTO_ICMPV6;
    ip->hop_limit = 64;
    __builtin_memcpy(&ip->saddr, note->source, 16);
    __builtin_memcpy(&ip->daddr, &quoted->saddr, 16);
    icmp->type = note->kind == ERROR_TOO_BIG ? ICMPV6_TOO_BIG : ICMPV6_TIME_EXCEEDED;
    icmp->code = 0;
    icmp->checksum = 0;
    icmp->rest = note->kind == ERROR_TOO_BIG ? __builtin_bswap32(note->mtu) : 0;
    return 0;
}

/* The sum of the pseudo-header of an ICMPv6 message (RFC 4443 section 2.3). */
static __always_inline __u64 pseudo_sum(const struct ipv6hdr *ip) {
    const __u32 *addresses = (const __u32 *)&ip->saddr;
    __u64 sum = __builtin_bswap32(IPPROTO_ICMPV6) + (__u64)ip->payload_len;

#pragma unroll
    for (int word = 0; word < 8; word++)
        sum += addresses[word];
    return sum;
}

/* Turn the packet into an ICMP error about itself, and send it back where it came from. */
SEC("xdp")
int pointsman_error(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    __u8 *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u8 link[LINK_MOST] = {}, *l3;
    __u32 offset, length, quote, grow;
    __u64 sum;
    bool ipv4;

    if (!config || !note || !take_token(config, note))
        return XDP_DROP;
    offset = note->l3;
    if (offset != ETH_HLEN && offset != ETH_HLEN + 4 && offset != LINK_MOST)
        return XDP_DROP;
    l3 = frame + offset;
    if (frame + LINK_MOST > end || l3 + QUOTE_LEAST > end)
        return XDP_DROP;
    ipv4 = *l3 >> 4 == 4;
    if (ipv4)
        length = load16(l3 + 2);
    else if (l3 + 40 <= end)
        length = load16(l3 + 4) + sizeof(struct ipv6hdr);
    else
        return XDP_DROP;
    quote = (length < QUOTE ? length : QUOTE) & ~3u;
    if (quote < QUOTE_LEAST)
        return XDP_DROP;
    grow = ICMP_BYTES + (ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
    __builtin_memcpy(link, frame, ETH_HLEN);
    if (offset > ETH_HLEN)
        __builtin_memcpy(link + ETH_HLEN, frame + ETH_HLEN, 4);
    if (offset > ETH_HLEN + 4)
        __builtin_memcpy(link + ETH_HLEN + 4, frame + ETH_HLEN + 4, 4);
    if (bpf_xdp_adjust_tail(ctx, (int)(offset + quote) - (int)(end - frame)) ||
        bpf_xdp_adjust_head(ctx, -(int)grow))
        return XDP_DROP;
    frame = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (frame + LINK_MOST > end)
        return XDP_DROP;
    __builtin_memcpy(frame, link + 6, 6);
    __builtin_memcpy(frame + 6, link, 6);
    __builtin_memcpy(frame + 12, link + 12, 2);
    if (offset > ETH_HLEN)
        __builtin_memcpy(frame + ETH_HLEN, link + ETH_HLEN, 4);
    if (offset > ETH_HLEN + 4)
        __builtin_memcpy(frame + ETH_HLEN + 4, link + ETH_HLEN + 4, 4);
    l3 = frame + offset;
    if (ipv4) {
        struct icmp *icmp = (void *)(l3 + sizeof(struct iphdr));

        if (answer_ipv4(note, l3, end, quote) || !sum_quote((__u8 *)icmp + ICMP_BYTES, end, quote, &sum) ||
            (void *)(icmp + 1) > (void *)end)
            return XDP_DROP;
        sum += (__u64) * (__u32 *)icmp + icmp->rest;
        icmp->checksum = (__u16)~checksum_fold(fold64(sum));
    } else {
        struct icmp *icmp = (void *)(l3 + sizeof(struct ipv6hdr));

        if (answer_ipv6(note, l3, end, quote) || !sum_quote((__u8 *)icmp + ICMP_BYTES, end, quote, &sum) ||
            (void *)(icmp + 1) > (void *)end)
            return XDP_DROP;
        sum += (__u64) * (__u32 *)icmp + icmp->rest + pseudo_sum((void *)l3);
        icmp->checksum = (__u16)~checksum_fold(fold64(sum));
    }
    return send_back(ctx, note->port_flags);
}

/* What an XDP program tells the one at tc's ingress about a packet. */
struct meta {
    __u32 magic;
    __u32 interface;
    __be32 neighbour[4]; /* 0: the packet's destination, or the gateway on the way to it */
};

/* The packet has its new addresses; let the kernel find the neighbour, and wait for it with the packet. */
SEC("xdp")
int pointsman_by_kernel(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct meta *meta;

    if (!note)
        return XDP_ABORTED;
    if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta))) {
        /* A driver that carries no metadata. Towards a node, the kernel's own forwarding does it. */
        struct port *port = config ? port_of(config, ctx->ingress_ifindex) : NULL;

        if (port)
            port->flags |= PORT_NO_META;
        if (!note->reply)
            return XDP_PASS;
        count_gateway(GATEWAY_NO_NEIGHBOUR, 0);
        return XDP_DROP;
    }
    meta = (void *)(long)ctx->data_meta;
    if ((void *)(meta + 1) > (void *)(long)ctx->data)
        return XDP_ABORTED;
    meta->magic = META_MAGIC;
    meta->interface = note->interface;
    __builtin_memcpy(meta->neighbour, note->neighbour, 16);
    return XDP_PASS;
}

SEC("tc")
int pointsman_neighbour(struct __sk_buff *skb) {
    struct meta *meta = (void *)(long)skb->data_meta;
    struct bpf_redir_neigh neighbour = {};
    __u32 interface;

    if ((void *)(meta + 1) > (void *)(long)skb->data || meta->magic != META_MAGIC)
        return TC_ACT_UNSPEC;
    interface = meta->interface;
    if (meta->neighbour[2] == MAPPED) {
        neighbour.nh_family = 2; /* AF_INET */
        neighbour.ipv4_nh = meta->neighbour[3];
    } else if (meta->neighbour[0]) {
        neighbour.nh_family = 10; /* AF_INET6 */
        __builtin_memcpy(neighbour.ipv6_nh, meta->neighbour, 16);
    }
    /* The tag that it came in with is that of another link. */
    if (skb->vlan_present && bpf_skb_vlan_pop(skb))
        return TC_ACT_SHOT;
    /* The kernel reports no neighbour that does not answer to the packet's sender: that would show the node.
     */
    bpf_skb_change_type(skb, 3 /* PACKET_OTHERHOST */);
    if (neighbour.nh_family)
        return (int)bpf_redirect_neigh(interface, &neighbour, sizeof(neighbour), 0);
    return (int)bpf_redirect_neigh(interface, NULL, 0, 0);
}

#endif
