/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about packets of full-nat services. Both addresses change, within the quote and outside: nodes
 * hear of the clients' side from the source address, clients of the nodes' side from the listener.
 */
#ifndef POINTSMAN_FULL_NAT_ICMP_H
#define POINTSMAN_FULL_NAT_ICMP_H

#include "full_nat.h"
#include "icmp.h"

static __always_inline bool rewrite_end(const struct packet *packet, const struct quote *quote,
                                        bool is_source, const __be32 *address, __be16 port, __u32 *delta) {
    const __be32 *old = is_source ? quote->source : quote->destination;
    __u32 l4_delta, changed = 0;

    if ((void *)(quote->ports + 2) > packet->end)
        return false;
    l4_delta = address_delta(old, address) + delta16(quote->ports[is_source ? 0 : 1], port);
    if (!rewrite_quote(packet, quote, is_source, address, port, l4_delta, &changed))
        return false;
    *delta += changed;
    return true;
}

static __always_inline int pass_both(struct xdp_md *ctx, const struct config *config, struct packet *packet,
                                     const __be32 *source, const __be32 *destination, __u32 delta) {
    __be16 *checksum = packet->l4 + 2;
    struct next_hop hop = {};
    enum way way;

    if ((void *)(checksum + 1) > packet->end)
        return XDP_DROP;
    way = ask_way(ctx, config, packet, packet->source, destination, &hop, hop.confirmed);
    if (way == WAY_NONE || way == WAY_ENCAPSULATED || way == WAY_NOT_OURS || packet->hop_limit <= 1)
        return XDP_DROP;
    if (packet->family == 6)
        delta += address_delta(packet->source, source) + address_delta(packet->destination, destination);
    *checksum = checksum_update(*checksum, delta);
    count_gateway(GATEWAY_ICMP_ERROR, packet->length);
    rewrite_addresses(packet, source, destination);
    packet->reply = 1; /* the kernel itself must not be given it */
    return way == WAY_BY_KERNEL ? by_kernel(ctx, packet) : send_to(ctx, packet, &hop);
}

static __always_inline int nobodys(const struct config *config, const struct packet *packet) {
    count_gateway(GATEWAY_ICMP_UNKNOWN, packet->length);
    tell(config, EVENT_GATEWAY | GATEWAY_ICMP_UNKNOWN, 0);
    return XDP_DROP;
}

/* About what left as the listener's. */
SEC("xdp")
int pointsman_error_to_node(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    const struct listener *listener;
    struct passage *passage;
    struct packet packet = {};
    struct quote quote = {};
    struct shortcut *known;
    struct node *node;
    __u32 delta = 0;

    if (!config || !note || !read_error(ctx, config, &packet, &quote) || !is_quoted(&packet, quote.ports, 4))
        return XDP_PASS;
    passage = &note->passage;
    listener = listener_at(config, quote.source, quote.ports[0], quote.protocol);
    if (!listener)
        return XDP_PASS;
    __builtin_memcpy(passage->key.client, quote.destination, 16);
    __builtin_memcpy(passage->key.listener, quote.source, 16);
    passage->key.client_port = quote.ports[1];
    passage->key.listener_port = quote.ports[0];
    passage->key.protocol = quote.protocol;
    known = bpf_map_lookup_elem(&translated, &passage->key);
    if (!known)
        return nobodys(config, &packet);
    passage->known = *known;
    node = node_at(listener, find_word(listener->labels, listener->label_bits, passage->known.label));
    if (!node)
        return nobodys(config, &packet);
    if (!rewrite_end(&packet, &quote, true, node->address, passage->known.node_port, &delta) ||
        !rewrite_end(&packet, &quote, false, passage->known.source, passage->known.source_port, &delta))
        return XDP_DROP;
    return pass_both(ctx, config, &packet, passage->known.source, node->address, delta);
}

/* About what a node was sent, or would have been. */
SEC("xdp")
int pointsman_error_to_client(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct passage *passage;
    struct packet packet = {};
    struct quote quote = {};
    __u32 delta = 0;

    if (!config || !note || !read_error(ctx, config, &packet, &quote) || !is_quoted(&packet, quote.ports, 4))
        return XDP_PASS;
    passage = &note->passage;
    passage->clock = bpf_ktime_get_coarse_ns();
    if (!translate_back(swap16(quote.ports[0])))
        return XDP_PASS; /* about what the gateway itself sent */
    if (!rewrite_end(&packet, &quote, true, passage->key.client, passage->key.client_port, &delta) ||
        !rewrite_end(&packet, &quote, false, passage->key.listener, passage->key.listener_port, &delta))
        return XDP_DROP;
    return pass_both(ctx, config, &packet, passage->key.listener, passage->key.client, delta);
}

#endif
