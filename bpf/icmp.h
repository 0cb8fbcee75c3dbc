/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about packets of services: from clients' side to the node that sent the quoted packet, from
 * nodes' side to the client, as from the listener. Everything else that is ICMP is the kernel's.
 */
#ifndef POINTSMAN_ICMP_H
#define POINTSMAN_ICMP_H

#include "frame.h"
#include "handle.h"
#include "odd.h"

/* The quoted packet, in place. */
struct quote {
    void *l3;
    __be16 *ports;
    __be32 source[4];
    __be32 destination[4];
    __u8 protocol;
    __u8 has_ports;
};

/* Whether so many bytes from `at` on are the message's: what is behind its end by the IP header is
 * Ethernet's. */
static __always_inline bool is_quoted(const struct packet *packet, const void *at, __u32 bytes) {
    return at + bytes <= packet->end && (__u32)(at - packet->l3) + bytes <= packet->length;
}

static __always_inline bool is_error(__u8 family, __u8 type) {
    if (family == 4)
        return type == 3 || type == 11 || type == 12; /* RFC 792 */
    return type >= 1 && type <= 4;                    /* RFC 4443 */
}

static __always_inline bool read_quote_ipv4(const struct packet *packet, struct quote *quote) {
    struct iphdr *ip = quote->l3;

    if ((void *)(ip + 1) > packet->end || ip->version != 4 || ip->ihl < 5)
        return false;
    map_ipv4(quote->source, ip->saddr);
    map_ipv4(quote->destination, ip->daddr);
    quote->protocol = ip->protocol;
    quote->ports = quote->l3 + ip->ihl * 4;
    quote->has_ports = !(ip->frag_off & swap16(0x1fff));
    return true;
}

static __always_inline bool read_quote_ipv6(const struct packet *packet, struct quote *quote) {
    struct ipv6hdr *ip = quote->l3;
    __u32 walked = sizeof(*ip);

    if ((void *)(ip + 1) > packet->end || ip->version != 6)
        return false;
    __builtin_memcpy(quote->source, &ip->saddr, 16);
    __builtin_memcpy(quote->destination, &ip->daddr, 16);
    quote->protocol = ip->nexthdr;
    quote->has_ports = 1;
#pragma unroll
    for (int extension = 0; extension < EXTENSIONS; extension++) {
        __u8 *header = quote->l3 + walked;

        if (quote->protocol != IPPROTO_HOPOPTS && quote->protocol != IPPROTO_ROUTING &&
            quote->protocol != IPPROTO_FRAGMENT && quote->protocol != IPPROTO_DSTOPTS)
            break;
        if (header + 8 > (__u8 *)packet->end)
            return false;
        walked += quote->protocol == IPPROTO_FRAGMENT ? 8 : 8 * (header[1] + 1);
        if (quote->protocol == IPPROTO_FRAGMENT && LOAD(__u16, header + 2) & swap16(0xfff8))
            quote->has_ports = 0;
        quote->protocol = header[0];
        if (walked > 1024)
            return false;
    }
    quote->ports = quote->l3 + walked;
    return true;
}

/*
 * Put an address and port into the quoted packet, as its source or destination; `delta` gathers what the ICMP
 * checksum has to make up for.
 */
static __always_inline bool rewrite_quote(const struct packet *packet, const struct quote *quote,
                                          bool is_source, const __be32 *address, __be16 port, __u32 l4_delta,
                                          __u32 *delta) {
    __be16 *own_port = quote->ports + (is_source ? 0 : 1);
    __u32 at = quote->protocol == IPPROTO_UDP ? UDP_CHECKSUM : TCP_CHECKSUM;
    __be16 *checksum = (void *)quote->ports + at;
    __u32 changed;

    if ((void *)(quote->ports + 2) > packet->end)
        return false;
    changed = delta16(*own_port, port);
    *own_port = port;
    /* The quote of a TCP segment may end before its checksum. */
    if (is_quoted(packet, checksum, 2)) {
        __u16 old = *checksum;

        *checksum = quote->protocol == IPPROTO_UDP ? udp_checksum_update(old, l4_delta)
                                                   : checksum_update(old, l4_delta);
        changed += delta16(old, *checksum);
    }
    if (packet->family == 4) {
        struct iphdr *ip = quote->l3;
        __be32 *own = is_source ? &ip->saddr : &ip->daddr;
        __u32 own_delta = delta32(*own, address[3]);
        __u16 old = ip->check;

        *own = address[3];
        ip->check = checksum_update(old, own_delta);
        changed += own_delta + delta16(old, ip->check);
    } else {
        struct ipv6hdr *ip = quote->l3;

        if ((void *)(ip + 1) > packet->end)
            return false;
        changed += address_delta(is_source ? quote->source : quote->destination, address);
        __builtin_memcpy(is_source ? &ip->saddr : &ip->daddr, address, 16);
    }
    *delta = changed;
    return true;
}

/* Change the outer header, mend the ICMP checksum, and send it on. */
static __always_inline int pass_on(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                   const __be32 *address, __u32 l3_delta, __u32 delta) {
    const __be32 *to = packet->reply ? packet->destination : address;
    __be16 *checksum = packet->l4 + 2;
    struct next_hop hop = {};
    enum way way;

    if ((void *)(checksum + 1) > packet->end)
        return XDP_DROP;
    way = ask_way(ctx, config, packet, packet->source, to, &hop, hop.confirmed);
    if (way == WAY_NONE || way == WAY_ENCAPSULATED || way == WAY_NOT_OURS || packet->hop_limit <= 1)
        return XDP_DROP;
    if (packet->family == 6)
        delta += address_delta(packet->reply ? packet->source : packet->destination, address);
    *checksum = checksum_update(*checksum, delta);
    count_gateway(GATEWAY_ICMP_ERROR, packet->length);
    rewrite_l3(packet, address, l3_delta, 1);
    return way == WAY_BY_KERNEL ? by_kernel(ctx, packet) : send_to(ctx, packet, &hop);
}

/* The node that sent a listener's packet to a client, as far as anybody remembers: its position. */
static __always_inline __u32 sender(const struct config *config, const struct packet *packet,
                                    const struct listener *listener, const struct quote *quote) {
    struct hash client = client_hash(&listener->flows, packet->family, quote->destination, quote->ports[1]);
    __u32 now = flow_ticks(bpf_ktime_get_coarse_ns()), label = 0;
    struct memory memory;

    if (recall(&listener->flows, client, now, &memory)) {
        label = flow_label(*memory.entry);
    } else if (listener->flags & LISTENER_BY_CID) {
        __u64 *origin = AT(origins, memory.place.pair & config->origins_mask);

        if (origin && flow_tag(*origin) == memory.place.tag && flow_left(*origin, now))
            label = flow_label(*origin);
    }
    return label ? find_word(listener->labels, listener->label_bits, label) : NOWHERE;
}

/* An error about what left as the listener's. */
static __always_inline int error_to_node(struct xdp_md *ctx, const struct config *config,
                                         struct packet *packet, const struct listener *listener,
                                         const struct quote *quote) {
    __u32 position = sender(config, packet, listener, quote), delta, l3_delta;
    struct node *node = node_at(listener, position);

    if (!node) {
        count_gateway(GATEWAY_ICMP_UNKNOWN, packet->length);
        tell(config, EVENT_GATEWAY | GATEWAY_ICMP_UNKNOWN, 0);
        return XDP_DROP;
    }
    if (listener->forward >= FORWARD_DSR)
        return pass_error_by(ctx, packet, listener, position);
    l3_delta = delta32(packet->destination[3], node->address[3]);
    /* The deltas of a node lead from the listener to it, as does this change. */
    if (!rewrite_quote(packet, quote, true, node->address, node->port, node->l4_delta, &delta))
        return XDP_DROP;
    return pass_on(ctx, config, packet, node->address, l3_delta, delta);
}

/* An error about what a node was sent, or would have been. */
static __always_inline int error_to_client(struct xdp_md *ctx, const struct config *config,
                                           struct packet *packet, const struct reply *reply,
                                           const struct quote *quote) {
    __u32 delta, l3_delta = delta32(packet->source[3], reply->address[3]);

    packet->reply = 1;
    if (!rewrite_quote(packet, quote, false, reply->address, reply->port, reply->l4_delta, &delta))
        return XDP_DROP;
    return pass_on(ctx, config, packet, reply->address, l3_delta, delta);
}

/* A quote without ports that names a node: it cannot be told whose it is, and it must not show the node. */
static __always_inline int without_ports(const struct config *config, const struct packet *packet,
                                         const struct quote *quote) {
    struct endpoint_key key = {};

    __builtin_memcpy(key.address, quote->destination, 16);
    if (!bpf_map_lookup_elem(&replies, &key))
        return XDP_PASS;
    count_gateway(GATEWAY_ICMP_SUPPRESSED, packet->length);
    tell(config, EVENT_GATEWAY | GATEWAY_ICMP_SUPPRESSED, 0);
    return XDP_DROP;
}

/* Whether it is an error about a UDP or TCP packet, or a fragment of which that cannot be told. */
static __always_inline bool read_error(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                       struct quote *quote) {
    if (!read_link(ctx, config, packet) || read_network(packet) != READ_ICMP || packet->l4 + 8 > packet->end)
        return false;
    if (!is_error(packet->family, load8(packet->l4)))
        return false;
    quote->l3 = packet->l4 + 8;
    if (packet->family == 4 ? !read_quote_ipv4(packet, quote) : !read_quote_ipv6(packet, quote))
        return false;
    return quote->protocol == IPPROTO_UDP || quote->protocol == IPPROTO_TCP || !quote->has_ports;
}

/* Whether the quoted packet went to a node from a source address of full-nat; fills in whose ports those are.
 */
static __always_inline bool is_from_source(const struct quote *quote) {
    struct scratch *note = AT(scratch, 0);

    if (!note || !may_be_listener(quote->source))
        return false;
    __builtin_memcpy(note->passage.block.source, quote->source, 16);
    __builtin_memcpy(note->passage.block.node, quote->destination, 16);
    note->passage.block.node_port = quote->ports[1];
    note->passage.block.protocol = quote->protocol;
    return bpf_map_lookup_elem(&blocks, &note->passage.block);
}

SEC("xdp")
int pointsman_icmp(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    const struct listener *listener;
    const struct reply *reply;
    struct packet packet = {};
    struct quote quote = {};

    if (!config || !read_error(ctx, config, &packet, &quote))
        return XDP_PASS;
    if (!quote.has_ports || !is_quoted(&packet, quote.ports, 4))
        return without_ports(config, &packet, &quote);
    listener = listener_at(config, quote.source, quote.ports[0], quote.protocol);
    if (listener && listener->forward == FORWARD_FULL_NAT && same_address(packet.destination, quote.source)) {
        ask_for(ctx, TAIL_ERROR_TO_NODE);
        return XDP_DROP;
    }
    if (listener && same_address(packet.destination, quote.source))
        return error_to_node(ctx, config, &packet, listener, &quote);
    if (is_from_source(&quote) && same_address(packet.destination, quote.source)) {
        ask_for(ctx, TAIL_ERROR_TO_CLIENT);
        return XDP_DROP;
    }
    reply = reply_at(config, quote.destination, quote.ports[1], quote.protocol, bpf_ktime_get_coarse_ns());
    if (reply && same_address(packet.destination, quote.source))
        return error_to_client(ctx, config, &packet, reply, &quote);
    return XDP_PASS;
}

#endif
