/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of full-nat services, in both directions, in a program of their own. */
#ifndef POINTSMAN_FULL_NAT_WAY_H
#define POINTSMAN_FULL_NAT_WAY_H

#include "full_nat.h"
#include "noted.h"

/* Put both addresses and ports in; false where the header is cut off. */
static __always_inline bool rewrite_both(const struct packet *packet, const __be32 source[4],
                                         __be16 source_port, const __be32 destination[4],
                                         __be16 destination_port) {
    __u32 delta = address_delta(packet->source, source) + address_delta(packet->destination, destination);
    __u8 *l4 = packet->l4;
    __be16 *ports = packet->l4;

    if (packet->protocol == IPPROTO_UDP) {
        __be16 *checksum = (__be16 *)(l4 + UDP_CHECKSUM);

        if (l4 + 8 > (__u8 *)packet->end)
            return false;
        *checksum = udp_checksum_update(*checksum, delta + delta16(ports[0], source_port) +
                                                       delta16(ports[1], destination_port));
    } else {
        __be16 *checksum = (__be16 *)(l4 + TCP_CHECKSUM);

        if (l4 + 20 > (__u8 *)packet->end)
            return false;
        *checksum = checksum_update(*checksum, delta + delta16(ports[0], source_port) +
                                                   delta16(ports[1], destination_port));
    }
    ports[0] = source_port;
    ports[1] = destination_port;
    rewrite_addresses(packet, source, destination);
    return true;
}

/* Whom the kernel must not be given a packet of the gateway's own address to forward: it calls that a
 * martian. */
static __always_inline int send_both(struct xdp_md *ctx, struct packet *packet, enum way way,
                                     const struct next_hop *hop) {
    packet->reply = 1;
    return unlikely(way == WAY_BY_KERNEL) ? by_kernel(ctx, packet) : send_to(ctx, packet, hop);
}

static __always_inline __u32 ended_by(const struct packet *packet, __u32 own) {
    __u8 flags = packet->protocol == IPPROTO_TCP ? tcp_flags(packet) : 0;

    if (flags & TCP_RST)
        return TRANSLATION_ENDED;
    return flags & TCP_FIN ? own : 0;
}

/* In the scratch, as a program's stack has no room for it. */
static __always_inline void note_both(const struct packet *packet, struct scratch *note,
                                      const __be32 source[4], const __be32 destination[4], __u32 counts) {
    struct fragment *fragment = &note->fragment;

    fragment_key(packet, &note->fragment_key);
    __builtin_memset(fragment, 0, sizeof(*fragment));
    fragment->until = note->passage.clock + FRAGMENT_SECONDS * 1000000000ull;
    fragment->counts = counts;
    fragment->both = 1;
    __builtin_memcpy(fragment->address, destination, 16);
    __builtin_memcpy(fragment->source, source, 16);
    bpf_map_update_elem(&fragments, &note->fragment_key, fragment, BPF_ANY);
}

static __always_inline int full_nat_to_node(struct xdp_md *ctx, const struct config *config,
                                            struct packet *packet, struct scratch *note,
                                            const struct listener *listener) {
    struct passage *passage = &note->passage;
    const __be16 *ports = packet->l4;
    __u32 now = (__u32)bpf_jiffies64();
    struct request *request = &note->request;
    enum way way = WAY_KNOWN;
    struct hot *hot_here;
    struct next_hop *hop;
    struct node *node;

    __builtin_memcpy(passage->key.client, packet->source, 16);
    __builtin_memcpy(passage->key.listener, packet->destination, 16);
    passage->key.client_port = ports[0];
    passage->key.listener_port = ports[1];
    passage->key.protocol = packet->protocol;
    __builtin_memset(request, 0, sizeof(*request));
    request->preferred = NOWHERE;
    if (packet->protocol == IPPROTO_TCP && (tcp_flags(packet) & (TCP_SYN | TCP_ACK)) != TCP_SYN)
        request->preferred = (__u32)position_by_translation(listener);
    if (choose(config, packet, listener, ports[0], packet->l4 + 8, packet->left - 8, request) !=
        CHOSEN_NODE) {
        tell(config, request->verdict, listener->counts);
        return XDP_DROP;
    }
    node = node_at(listener, request->position);
    if (!node)
        return XDP_ABORTED;
    hot_here = hot_of(config, node->hot);
    if (!hot_here)
        return XDP_ABORTED;
    hop = &hot_here->hop;
    if (unlikely(!is_fresh(config, hop, packet->interface, now))) {
        hop->interface = 0;
        way = ask_way(ctx, config, packet, packet->source, node->address, hop, now);
        if (way == WAY_NOT_OURS)
            return XDP_PASS;
        if (way == WAY_NONE || way == WAY_ENCAPSULATED)
            return refuse(ctx, config, packet, listener->counts, LISTENER_NO_ROUTE, packet->destination, 0);
    }
    if (unlikely(packet->hop_limit <= 1))
        return refuse(ctx, config, packet, listener->counts, LISTENER_HOP_LIMIT, packet->destination, 0);
    if (unlikely(hop->mtu && packet->length > hop->mtu))
        return refuse(ctx, config, packet, listener->counts, LISTENER_TOO_BIG, packet->destination, hop->mtu);
    passage->clock = request->clock;
    __builtin_memcpy(passage->block.node, node->address, 16);
    passage->block.node_port = node->port;
    passage->block.protocol = packet->protocol;
    passage->label = node->label;
    passage->opens = !!(request->traits & TRAIT_OPENS);
    passage->ended = ended_by(packet, TRANSLATION_CLIENT_ENDED);
    if (!translate(listener)) {
        count_listener(config, listener->counts, LISTENER_NO_SOURCE_PORT, packet->length);
        tell(config, EVENT_LISTENER | LISTENER_NO_SOURCE_PORT, listener->counts);
        return XDP_DROP;
    }
    add(&hot_here->count[request->use & 3], packet->length);
    tell(config, EVENT_NODE | request->use, node->hot);
    if (packet->first_fragment)
        note_both(packet, note, passage->known.source, node->address, listener->counts);
    if (!rewrite_both(packet, passage->known.source, passage->known.source_port, node->address, node->port))
        return XDP_DROP;
    return send_both(ctx, packet, way, hop);
}

/* `note` has a passage to the client at a listener, which `translate_back` has found. */
static __always_inline int full_nat_to_client(struct xdp_md *ctx, const struct config *config,
                                              struct packet *packet, struct scratch *note) {
    struct passage *passage = &note->passage;
    struct reply *reply = &note->answer;
    const struct listener *listener;
    struct translation *element;
    __u32 now = (__u32)bpf_jiffies64();
    enum way way = WAY_KNOWN;
    struct destination *place;
    struct hot *hot_here;
    struct node *node;

    listener = listener_at(config, passage->key.listener, passage->key.listener_port, packet->protocol);
    if (!listener || listener->forward != FORWARD_FULL_NAT)
        return XDP_PASS;
    node = node_at(listener, find_word(listener->labels, listener->label_bits, passage->label));
    if (!node || (node->until && passage->clock >= node->until + ANSWER_SECONDS * 1000000000ull))
        return XDP_PASS;
    hot_here = hot_of(config, node->hot);
    place = destination_of(config, passage->key.client, node->hot);
    if (!hot_here || !place)
        return XDP_ABORTED;
    if (unlikely(!is_fresh(config, &place->hop, packet->interface, now) || place->hot != node->hot ||
                 !same_address(place->address, passage->key.client))) {
        place->hop.interface = 0;
        way = ask_way(ctx, config, packet, packet->source, passage->key.client, &place->hop, now);
        if (way == WAY_NOT_OURS)
            return XDP_PASS;
        if (way == WAY_NONE || way == WAY_ENCAPSULATED)
            return refuse(ctx, config, packet, listener->counts, LISTENER_NO_ROUTE, packet->destination, 0);
        place->hot = node->hot;
        __builtin_memcpy(place->address, passage->key.client, 16);
    }
    if (unlikely(packet->hop_limit <= 1))
        return refuse(ctx, config, packet, listener->counts, LISTENER_HOP_LIMIT, packet->destination, 0);
    if (unlikely(place->hop.mtu && packet->length > place->hop.mtu))
        return refuse(ctx, config, packet, listener->counts, LISTENER_TOO_BIG, packet->destination,
                      place->hop.mtu);
    element = AT(translations, passage->known.element);
    if (element)
        keep_port(element, flow_ticks(passage->clock), listener->flows.flow_ticks,
                  ended_by(packet, TRANSLATION_NODE_ENDED), false);
    reply->flows = listener->flows;
    reply->label = passage->label;
    reply->protocol = listener->protocol;
    reply->flags = REPLY_VALID;
    reply->until = node->until;
    hear_of(config, packet, reply, passage->key.client, passage->key.client_port, packet->l4 + 8,
            packet->left - 8, passage->clock);
    add(&hot_here->count[NODE_REPLY], packet->length);
    tell(config, EVENT_NODE | NODE_REPLY, node->hot);
    if (packet->first_fragment)
        note_both(packet, note, passage->key.listener, passage->key.client, listener->counts);
    if (!rewrite_both(packet, passage->key.listener, passage->key.listener_port, passage->key.client,
                      passage->key.client_port))
        return XDP_DROP;
    return send_both(ctx, packet, way, &place->hop);
}

/* Later fragments of what was left to the kernel are the kernel's. */
static __always_inline int left(const struct packet *packet, int action) {
    if (action == XDP_PASS && packet->first_fragment)
        note_fragment(packet, NULL, 0, 0, 0, bpf_ktime_get_coarse_ns());
    return action;
}

static __always_inline bool read_again(const struct xdp_md *ctx, const struct scratch *note,
                                       struct packet *packet) {
    if (!read_noted(ctx, note, packet) || packet->l4 + 8 > packet->end)
        return false;
    packet->first_fragment = note->part == PART_FIRST;
    return true;
}

SEC("xdp")
int pointsman_full_nat(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    const struct listener *listener;
    struct packet packet = {};

    if (!config || !note)
        return XDP_ABORTED;
    if (!read_again(ctx, note, &packet))
        return XDP_PASS;
    listener = listener_at(config, packet.destination, ((__be16 *)packet.l4)[1], packet.protocol);
    if (!listener)
        return left(&packet, XDP_PASS);
    return left(&packet, full_nat_to_node(ctx, config, &packet, note, listener));
}

SEC("xdp")
int pointsman_full_nat_back(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct scratch *note = AT(scratch, 0);
    struct packet packet = {};

    if (!config || !note)
        return XDP_ABORTED;
    if (!read_again(ctx, note, &packet))
        return XDP_PASS;
    return left(&packet, full_nat_to_client(ctx, config, &packet, note));
}

#endif
