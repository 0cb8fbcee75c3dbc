/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers to addresses that have not shown yet that they receive them
 * (docs/adr/0022-what-proves-an-address.md).
 */
#ifndef POINTSMAN_PEERS_H
#define POINTSMAN_PEERS_H

#include "budget.h"
#include "lib/flow.h"

#define PEER_TICKS 1117 /* five minutes without a word, and the address has proven nothing */

static __always_inline struct peer *peer_of(const struct filter_rule *rule, struct question *question) {
    struct peer_key *key = &question->peer;

    key->filter = question->filter;
    key->generation = rule->generation;
    __builtin_memcpy(key->address, question->source, 16);
    key->port = question->port;
    key->zero = 0;
    return bpf_map_lookup_elem(&peers, key);
}

static __always_inline bool is_forgotten(const struct peer *peer, __u32 now) {
    return now - peer->seen > PEER_TICKS;
}

/* Take note of what a client sent: it may be answered so many times that. */
__noinline int peer_spoke(struct xdp_md *ctx) {
    struct question *question = AT(questions, 0);
    const __u8 *end = (void *)(long)ctx->data_end, *udp = (void *)(long)ctx->data;
    struct filter_rule *rule = question ? AT(filter_rules, question->filter) : NULL;
    struct peer *peer;
    __u32 now;

    if (!rule || !rule->amplification)
        return 0;
    udp += question->offset & 0xfff;
    now = flow_ticks(question->clock);
    peer = peer_of(rule, question);
    if (!peer || is_forgotten(peer, now)) {
        __builtin_memset(&question->fresh, 0, sizeof(question->fresh));
        question->fresh.seen = now;
        bpf_map_update_elem(&peers, &question->peer, &question->fresh, BPF_ANY);
        peer = bpf_map_lookup_elem(&peers, &question->peer);
        if (!peer)
            return 0;
    }
    if (peer->seen != now)
        peer->seen = now;
    if (peer->flags & PEER_PROVEN)
        return 0;
    if (question->records.kinds & RECORD_PROTECTED)
        peer->flags |= PEER_SPOKE;
    if (udp + 8 <= end && question->records.kinds & RECORD_ANSWERS &&
        cookie_brought(udp + 8, end, question->size, &question->cookie) &&
        question->cookie.start == peer->cookie[0] && question->cookie.more == peer->cookie[1] &&
        (question->cookie.start || question->cookie.more)) {
        peer->flags |= PEER_PROVEN;
        return 0;
    }
    __sync_fetch_and_add(&peer->credit, (__s64)question->left * rule->amplification);
    return 0;
}

/* Whether a node's answer may go to the client that the question names as its source. */
__noinline int peer_answered(struct xdp_md *ctx) {
    struct question *question = AT(questions, 0);
    const __u8 *end = (void *)(long)ctx->data_end, *udp = (void *)(long)ctx->data;
    struct filter_rule *rule = question ? AT(filter_rules, question->filter) : NULL;
    struct peer *peer;
    bool encrypted;
    __u32 now;

    if (!rule || !rule->amplification)
        return 0;
    udp += question->offset & 0xfff;
    if (udp + 8 > end || question->size > 65535)
        return HELD(LISTENER_UNPROVEN);
    /*
     * Encrypted, as nothing is that a server answers a stranger with. A DTLS 1.3 server sends the rest of its
     * handshake to whoever said hello in epoch 2, so only epoch 3 counts there (RFC 9147 section 6.1).
     */
    encrypted = false;
    if (dtls_has(udp + 8, end, question->size, 5)) {
        __u8 first = load8(udp + 8);

        encrypted = (first & 0xe0) == 0x20 ? (first & 3) == 3 : LOAD(__u16, udp + 11) != 0;
    }
    now = flow_ticks(question->clock);
    peer = peer_of(rule, question);
    /* Nobody asked: the node speaks first, which it can do only in a session that it has. */
    if (!peer || is_forgotten(peer, now))
        return encrypted ? 0 : HELD(LISTENER_UNPROVEN);
    if (peer->flags & PEER_PROVEN)
        return 0;
    if (encrypted && peer->flags & PEER_SPOKE) {
        /* The node has verified what the address sent, or it would have no answer to it. */
        peer->flags |= PEER_PROVEN;
        return 0;
    }
    if (cookie_given(udp + 8, end, question->size, &question->cookie)) {
        peer->cookie[0] = question->cookie.start;
        peer->cookie[1] = question->cookie.more;
    }
    /* By the UDP header, so that later fragments are in it. */
    if (__sync_fetch_and_add(&peer->credit, -(__s64)(question->size + 8)) >= (__s64)(question->size + 8))
        return 0;
    __sync_fetch_and_add(&peer->credit, (__s64)(question->size + 8));
    return HELD(LISTENER_UNPROVEN);
}

#endif
