/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What nodes' packets tell of the flows that they belong to. */
#ifndef POINTSMAN_HEAR_H
#define POINTSMAN_HEAR_H

#include "choose.h"

/* A deadline some ticks off does no harm to an origin, and a write for every packet would. */
#define ORIGIN_COARSE 5

/* Remember who answered a client of whom no flow is kept: ICMP errors about it are for that node. */
static __always_inline void note_origin(const struct config *config, const struct flow_table *flows,
                                        __u32 label, struct hash client, __u64 clock) {
    struct flow_place place = flow_place(client, flows->salt);
    __u64 *origin = AT(origins, place.pair & config->origins_mask);
    __u64 said = flow_entry(place.tag, label, FLOW_ANSWERED, flow_ticks(clock) + flows->flow_ticks);

    if (origin && *origin >> ORIGIN_COARSE != said >> ORIGIN_COARSE)
        *origin = said;
}

/* What a reply tells of its flow. */
__noinline int learn(const struct reply *reply, struct request *request) {
    __u32 now, class = FLOW_ANSWERED, ticks;
    struct memory memory;

    if (!reply || !request)
        return 0;
    now = flow_ticks(request->clock);
    ticks = reply->flows.flow_ticks;
    if (request->traits & TRAIT_CLOSES) {
        class = FLOW_CLOSING;
        ticks = ticks < CLOSING_TICKS ? ticks : CLOSING_TICKS;
    }
    if (recall(&reply->flows, request->client, now, &memory)) {
        __u64 entry = *memory.entry;

        if (flow_label(entry) != reply->label)
            return 0;
        if (class == FLOW_CLOSING)
            refresh(memory.entry, class, ticks, now);
        else if (flow_class(entry) == FLOW_NEW)
            refresh(memory.entry, class, flow_left(entry, now), now);
        return 0;
    }
    /* The node spoke first: what the client answers is for it. */
    if (!reply->until && !(reply->flags & REPLY_BY_CID) && class != FLOW_CLOSING)
        remember(&reply->flows, &memory, reply->label, class, ticks, now);
    return 0;
}

/* Whether a reply to the client is worth to be learned from, and with which traits. */
static __always_inline void hear_of(const struct config *config, const struct packet *packet,
                                    const struct reply *reply, const __be32 *client, __be16 client_port,
                                    const void *payload, __u32 left, __u64 clock) {
    struct request request = {.clock = clock};
    __u8 type;

    request.client = client_hash(&reply->flows, packet->family, client, client_port);
    if (reply->protocol == PROTOCOL_DTLS) {
        if (!dtls_has(payload, packet->end, left, 1))
            return;
        type = load8(payload);
        if (reply->flags & REPLY_BY_CID) {
            note_origin(config, &reply->flows, reply->label, request.client, clock);
            /* A session's data: its flow is over, or will be soon. */
            if (type == 23 || type == 25)
                return;
        }
        /* A HelloVerifyRequest answers every stranger. */
        if (type == 22 && dtls_has(payload, packet->end, left, 14) && load8((const __u8 *)payload + 13) == 3)
            return;
    } else if (reply->protocol == PROTOCOL_TCP) {
        __u8 flags = tcp_flags(packet);

        if (flags & (TCP_FIN | TCP_RST))
            request.traits |= TRAIT_CLOSES;
        else if (flags & TCP_SYN && flags & TCP_ACK)
            return; /* as does a SYN's acknowledgement: the connection is one when the client's comes back */
    }
    learn(reply, &request);
}

#endif
