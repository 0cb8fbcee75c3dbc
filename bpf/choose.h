/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The choice of the node: by connection ID, by remembered flow, by the scheduler. */
#ifndef POINTSMAN_CHOOSE_H
#define POINTSMAN_CHOOSE_H

#include "affinity.h"
#include "lib/dtls.h"

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define CLOSING_TICKS 224 /* a minute, for the last segments of a connection */

enum chosen {
    CHOSEN_NODE = 0, /* to the node at request.position, counted by request.use */
    CHOSEN_DROP,     /* for the reason in request.verdict */
};

/* What matters of a packet when it goes by its flow. */
#define TRAIT_OPENS 1 /* something new: it follows its flow only to a node that takes new ones */
#define TRAIT_EPOCH_0 2
#define TRAIT_CLOSES 4
#define TRAIT_RESETS 8

static __always_inline __u8 tcp_flags(const struct packet *packet) {
    const __u8 *tcp = packet->l4;

    return tcp + 14 <= (const __u8 *)packet->end ? tcp[13] : 0;
}

static __always_inline __u32 traits_of(const struct packet *packet, __u8 protocol, const void *payload,
                                       __u32 left) {
    __u32 traits = 0;

    if (protocol == PROTOCOL_DTLS) {
        if (dtls_is_epoch_0(payload, packet->end, left))
            traits |= TRAIT_EPOCH_0;
        if (dtls_is_first_client_hello(payload, packet->end, left))
            traits |= TRAIT_OPENS;
    } else if (protocol == PROTOCOL_TCP) {
        __u8 flags = tcp_flags(packet);

        if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
            traits |= TRAIT_OPENS;
        if (flags & (TCP_FIN | TCP_RST))
            traits |= TRAIT_CLOSES;
        if (flags & TCP_RST)
            traits |= TRAIT_RESETS;
    }
    return traits;
}

/* Follow a remembered flow. NOWHERE: its node does not take this packet, another one is to be picked. */
static __always_inline __u32 follow(const struct listener *listener, __u64 *entry,
                                    const struct request *request) {
    __u32 position = find_word(listener->labels, listener->label_bits, flow_label(*entry));
    struct node *node = node_at(listener, position);
    __u32 class = flow_class(*entry), ticks = listener->flows.flow_ticks;

    if (!node || !(node->flags & NODE_TAKES_NAMED))
        return NOWHERE;
    if (node->flags & NODE_LEAVING) {
        if (request->traits & TRAIT_OPENS || request->clock >= node->until)
            return NOWHERE;
        /* A handshake has no more time than its flow; what `linger` is for is refreshed until then. */
        if (listener->protocol == PROTOCOL_DTLS)
            return position;
    } else if (!(node->flags & NODE_TAKES_NEW)) {
        /* A NAT port in use again and again would otherwise feed a draining node for ever, */
        if (request->traits & TRAIT_OPENS)
            return NOWHERE;
        /* and so would a sender who never pauses. */
        if (listener->protocol == PROTOCOL_UDP)
            return position;
    }
    if (request->traits & TRAIT_EPOCH_0)
        ticks = listener->flows.handshake_ticks;
    /* Answers do not come by: that the client goes on tells of one. */
    if (listener->forward >= FORWARD_DSR && class == FLOW_NEW && !(request->traits & TRAIT_OPENS))
        class = FLOW_ANSWERED;
    if (listener->protocol == PROTOCOL_TCP) {
        if (request->traits & TRAIT_OPENS)
            class = FLOW_NEW;
        else if (request->traits & TRAIT_CLOSES)
            class = FLOW_CLOSING;
        if (class == FLOW_CLOSING && ticks > CLOSING_TICKS)
            ticks = CLOSING_TICKS;
    }
    refresh(entry, class, ticks, flow_ticks(request->clock));
    return position;
}

static __always_inline int balance(const struct config *config, const struct listener *listener,
                                   struct memory *memory, struct request *request) {
    __u32 ticks = listener->flows.flow_ticks, now = flow_ticks(request->clock);
    struct node *node;
    __u32 position;

    position = request->preferred;
    if (likely(position == NOWHERE))
        position = schedule(listener, request->client);
    node = node_at(listener, position);
    if (!node) {
        count_listener(config, listener->counts, LISTENER_NO_NODE, request->length);
        request->verdict = EVENT_LISTENER | LISTENER_NO_NODE;
        return CHOSEN_DROP;
    }
    /* From an address of the gateway a node's own packet does come back to it. */
    if (same_address(request->source, node->address) && listener->forward != FORWARD_FULL_NAT) {
        count_gateway(GATEWAY_HAIRPIN, request->length);
        request->verdict = EVENT_GATEWAY | GATEWAY_HAIRPIN;
        return CHOSEN_DROP;
    }
    if (request->traits & TRAIT_EPOCH_0)
        ticks = listener->flows.handshake_ticks;
    /* A connection that is reset needs no memory. */
    if (!(request->traits & TRAIT_RESETS) &&
        !remember(&listener->flows, memory, node->label, FLOW_NEW, ticks, now))
        count_gateway(GATEWAY_FLOW_TABLE_FULL, request->length);
    request->position = position;
    request->use = NODE_BALANCED;
    return CHOSEN_NODE;
}

/* Choose by the remembered flow, else by the scheduler: returns enum chosen. */
__noinline int by_flow(const struct listener *listener, struct request *request) {
    const struct config *config = AT(settings, 0);
    struct memory memory;

    if (!listener || !request || !config)
        return CHOSEN_DROP;
    if (recall(&listener->flows, request->client, flow_ticks(request->clock), &memory)) {
        __u64 was = *memory.entry;

        request->position = follow(listener, memory.entry, request);
        request->use = NODE_FLOW;
        if (request->position != NOWHERE) {
            request->renewed = *memory.entry != was;
            return CHOSEN_NODE;
        }
        write_entry(memory.entry, 0);
    }
    return balance(config, listener, &memory, request);
}

/* The same, and now and then what is over is cleared away. */
static __always_inline int by_flow_or_new(const struct listener *listener, struct request *request) {
    int chosen = by_flow(listener, request);

    if (request->use == NODE_BALANCED) {
        if (unlikely(listener->scheduler == SCHEDULER_LEAST_CONNECTIONS))
            sweep_more(listener);
        else
            sweep(&listener->flows, flow_ticks(request->clock));
    }
    return chosen;
}

/* The same where a client's network has a node. */
static __always_inline int with_affinity(const struct listener *listener, struct request *request) {
    int chosen;

    if (request->preferred == NOWHERE)
        request->preferred = (__u32)position_by_affinity(listener, request);
    chosen = by_flow_or_new(listener, request);
    /* As often as a flow's own entry is written to is enough. */
    if (chosen == CHOSEN_NODE && (request->renewed || request->use == NODE_BALANCED) &&
        !(request->traits & TRAIT_RESETS))
        keep_affinity(listener, request);
    return chosen;
}

/* Choose the node of a packet to a listener. `left` is what there is of the payload by the IP header. */
static __always_inline int choose(const struct config *config, const struct packet *packet,
                                  const struct listener *listener, __be16 port, const void *payload,
                                  __u32 left, struct request *request) {
    struct id_place place = {listener->id_start, listener->id_span, listener->id_shift, listener->id_mask};
    enum listener_verdict why = LISTENER_CID_UNKNOWN;
    struct node *node;
    __u32 id;

    if (listener->flags & LISTENER_BY_CID && dtls_is_cid_record(payload, packet->end, left)) {
        if (dtls_node_id(payload, packet->end, left, place, &id)) {
            request->position = find_word(listener->ids, listener->id_bits, id);
            node = node_at(listener, request->position);
            if (node) {
                request->use = NODE_CID;
                if (likely(node->flags & NODE_TAKES_NAMED))
                    return CHOSEN_NODE;
                why = LISTENER_CID_NODE_DOWN;
            }
        }
        count_listener(config, listener->counts, why, packet->length);
        request->verdict = EVENT_LISTENER | why;
        if (!(listener->flags &
              (why == LISTENER_CID_UNKNOWN ? LISTENER_UNKNOWN_BALANCED : LISTENER_DOWN_BALANCED)))
            return CHOSEN_DROP;
    }
    __builtin_memcpy(request->source, packet->source, 16);
    request->family = packet->family;
    request->length = packet->length;
    request->clock = bpf_ktime_get_coarse_ns();
    request->client = client_hash(&listener->flows, packet->family, packet->source, port);
    request->traits = traits_of(packet, listener->protocol, payload, left);
    if (unlikely(listener->affinity_ticks))
        return with_affinity(listener, request);
    return by_flow_or_new(listener, request);
}

#endif
