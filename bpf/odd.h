/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets whose ports are not where they usually are: IPv4 options, IPv6 extension headers, fragments. */
#ifndef POINTSMAN_ODD_H
#define POINTSMAN_ODD_H

#include "frame.h"
#include "handle.h"
#include "noted.h"

/* Headers that are walked at most; a packet with more is left to the kernel, if no guard is there. */
#define EXTENSIONS 6

static __always_inline bool is_extension(__u8 protocol) {
    return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
           protocol == IPPROTO_DSTOPTS;
}

struct fragment_header { /* RFC 8200 section 4.5 */
    __u8 next;
    __u8 reserved;
    __be16 offset; /* in its upper 13 bits; the lowest says that more follow */
    __be32 id;
};

static __always_inline enum part read_odd_ipv4(struct packet *packet) {
    struct iphdr *ip = packet->l3;
    __u32 header, sum = 0;

    if ((void *)(ip + 1) > packet->end || ip->version != 4 || ip->ihl < 5 || !read_ipv4(packet, ip))
        return PART_NONE;
    header = ip->ihl * 4;
    if (packet->length < header)
        return PART_NONE;
#pragma unroll
    for (__u32 at = 0; at < 60; at += 2) {
        __u16 *word = packet->l3 + at;

        if (at >= header)
            break;
        if ((void *)(word + 1) > packet->end)
            return PART_NONE;
        sum += *word;
    }
    if (checksum_fold(sum) != 0xffff)
        return PART_NONE;
    /* Read anew: by way of the loop the verifier has come to know of it what cannot be. */
    OPAQUE(ip);
    if ((void *)(ip + 1) > packet->end)
        return PART_NONE;
    header = ip->ihl * 4;
    packet->l4 = packet->l3 + header;
    packet->left = packet->length - header;
    packet->fragment_id = ip->id;
    if (!(ip->frag_off & swap16(IPV4_FRAGMENT)))
        return PART_WHOLE;
    return ip->frag_off & swap16(0x1fff) ? PART_LATER : PART_FIRST;
}

static __always_inline enum part read_odd_ipv6(struct packet *packet) {
    struct ipv6hdr *ip = packet->l3;
    enum part part = PART_WHOLE;
    __u32 walked = sizeof(*ip);

    if ((void *)(ip + 1) > packet->end || ip->version != 6 || !read_ipv6(packet, ip))
        return PART_NONE;
#pragma unroll
    for (int extension = 0; extension < EXTENSIONS; extension++) {
        __u8 *header = packet->l3 + walked;
        __u32 size = 8;

        if (!is_extension(packet->protocol))
            break;
        if (header + 8 > (__u8 *)packet->end || walked + 8 > packet->length)
            return PART_NONE;
        if (packet->protocol == IPPROTO_FRAGMENT) {
            struct fragment_header *fragment = (void *)header;

            packet->fragment_id = fragment->id;
            if (fragment->offset & swap16(0xfff8))
                part = PART_LATER;
            else if (fragment->offset & swap16(1)) /* more follow; the other bits are reserved */
                part = PART_FIRST;
        } else if (packet->protocol == IPPROTO_ROUTING && header[3]) {
            return PART_NONE; /* not at its end yet (RFC 8200 section 4.4) */
        } else {
            size = 8 * (header[1] + 1);
        }
        packet->protocol = header[0];
        walked += size;
        if (part == PART_LATER)
            break;
    }
    if (walked > packet->length || walked > 1280)
        return PART_NONE;
    packet->l4 = packet->l3 + walked;
    packet->left = packet->length - walked;
    return part;
}

/* Whether an address is a listener's or a node's, whatever the port. */
static __always_inline bool is_known(const struct packet *packet) {
    struct endpoint_key key = {};

    __builtin_memcpy(key.address, packet->destination, 16);
    if (bpf_map_lookup_elem(&listeners, &key))
        return true;
    __builtin_memcpy(key.address, packet->source, 16);
    return bpf_map_lookup_elem(&replies, &key);
}

/*
 * Whether an ICMP error quotes what a node was sent. Behind options or extension headers it is not
 * translated, and must not show the node either.
 */
static __always_inline bool shows_node(const struct packet *packet) {
    const __u8 *icmp = packet->l4, *quoted = icmp + 8;
    struct endpoint_key key = {};

    if (packet->family == 4) {
        if (quoted + 20 > (const __u8 *)packet->end || (icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12))
            return false;
        map_ipv4(key.address, LOAD(__u32, quoted + 16));
    } else {
        if (quoted + 40 > (const __u8 *)packet->end || icmp[0] & 0x80)
            return false;
        __builtin_memcpy(key.address, quoted + 24, 16);
    }
    return bpf_map_lookup_elem(&replies, &key);
}

static __always_inline int follow_first(struct xdp_md *ctx, const struct config *config,
                                        struct packet *packet) {
    __u64 clock = bpf_ktime_get_coarse_ns();
    const __be32 *destination;
    struct fragment *fragment;
    struct fragment_key key;
    struct next_hop hop = {};
    enum way way;

    fragment_key(packet, &key);
    fragment = bpf_map_lookup_elem(&fragments, &key);
    if (!fragment || clock >= fragment->until) {
        if (!is_known(packet))
            return XDP_PASS;
        count_gateway(GATEWAY_FRAGMENT_LOST, packet->length);
        tell(config, EVENT_GATEWAY | GATEWAY_FRAGMENT_LOST, 0);
        return XDP_DROP;
    }
    if (!(fragment->address[0] | fragment->address[1] | fragment->address[2] | fragment->address[3]))
        return XDP_PASS;
    if (fragment->reply == FRAGMENT_PASSED_BY)
        return pass_later_by(ctx, packet, fragment);
    packet->reply = (__u8)(fragment->reply | fragment->both);
    destination = fragment->reply ? packet->destination : fragment->address;
    way = ask_way(ctx, config, packet, packet->source, destination, &hop, hop.confirmed);
    if (way == WAY_NOT_OURS)
        return XDP_PASS;
    if (way == WAY_NONE || way == WAY_ENCAPSULATED || packet->hop_limit <= 1) {
        /* Errors are sent about first fragments only (RFC 1122 section 3.2.2, RFC 4443 section 2.4). */
        count_listener(config, fragment->counts, way == WAY_NONE ? LISTENER_NO_ROUTE : LISTENER_HOP_LIMIT,
                       packet->length);
        return XDP_DROP;
    }
    if (hop.mtu && packet->length > hop.mtu) {
        if (packet->reply || !may_fragment(packet)) {
            count_listener(config, fragment->counts, LISTENER_TOO_BIG, packet->length);
            return XDP_DROP;
        }
        count_gateway(GATEWAY_BY_KERNEL, packet->length);
        rewrite_l3(packet, fragment->address, fragment->l3_delta, 0);
        return XDP_PASS;
    }
    count_gateway(GATEWAY_FRAGMENT, packet->length);
    if (fragment->both)
        rewrite_addresses(packet, fragment->source, fragment->address);
    else
        rewrite_l3(packet, fragment->address, fragment->l3_delta, 1);
    if (way == WAY_BY_KERNEL)
        return by_kernel(ctx, packet);
    return send_to(ctx, packet, &hop);
}

SEC("xdp")
int pointsman_odd(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct packet packet = {};
    enum part part;

    if (!config || !note || !read_link(ctx, config, &packet))
        return XDP_PASS;
    if (packet.ether_type == swap16(ETH_P_IP))
        part = read_odd_ipv4(&packet);
    else if (packet.ether_type == swap16(ETH_P_IPV6))
        part = read_odd_ipv6(&packet);
    else
        return XDP_PASS;
    if (part == PART_NONE)
        return XDP_PASS;
    if (part != PART_LATER && (packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6)) {
        __u32 plain = packet.family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

        if (part == PART_WHOLE && packet.left + plain == packet.length) {
            bpf_tail_call(ctx, &tails, TAIL_ICMP);
            return XDP_PASS; /* to the verifier the call may have changed the packet, which is not read any
                                more */
        }
        if (!shows_node(&packet))
            return XDP_PASS;
        count_gateway(GATEWAY_ICMP_SUPPRESSED, packet.length);
        tell(config, EVENT_GATEWAY | GATEWAY_ICMP_SUPPRESSED, 0);
        return XDP_DROP;
    }
    if (packet.protocol != IPPROTO_UDP && packet.protocol != IPPROTO_TCP &&
        !(part == PART_LATER && packet.family == 6))
        return XDP_PASS;
    /* In a program of its own, which the verifier enters once and not by every way through this one. */
    note_packet(ctx, note, &packet, part);
    bpf_tail_call(ctx, &tails, TAIL_NOTED);
    return XDP_PASS;
}

/* Go on with a packet where pointsman_odd has left off. */
SEC("xdp")
int pointsman_noted(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct packet packet = {};
    int action;

    if (!config || !note)
        return XDP_ABORTED;
    if (!read_noted(ctx, note, &packet))
        return XDP_PASS;
    if (note->part == PART_LATER)
        return follow_first(ctx, config, &packet);
    packet.first_fragment = note->part == PART_FIRST;
    action = handle(ctx, config, &packet);
    if (action == XDP_PASS && note->part == PART_FIRST && is_known(&packet))
        note_fragment(&packet, NULL, 0, 0, 0, bpf_ktime_get_coarse_ns());
    return action;
}

#endif
