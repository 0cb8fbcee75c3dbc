/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The filter of a service, on the way to its nodes and back. */
#ifndef POINTSMAN_ADMIT_H
#define POINTSMAN_ADMIT_H

#include "peers.h"

/*
 * The stack is 512 bytes for all functions that have called each other, each rounded up to 32, and the
 * programs take most of it: so there are several functions side by side.
 */

/* Its form and source. */
__noinline int filter_before(struct xdp_md *ctx) {
    struct question *question = AT(questions, 0);
    struct filter_rule *rule;
    int held;

    if (!question)
        return 0;
    rule = AT(filter_rules, question->filter);
    if (!rule)
        return 0;
    held = filter_form(ctx, rule, question);
    return held ? held : filter_source(question->filter);
}

/* The budgets that it is in whichever node is chosen. */
__noinline int filter_rates(void) {
    struct question *question = AT(questions, 0);

    return question && !question->exempt ? filter_budgets(question) : 0;
}

/* The chosen node's budgets. Who is over them is not sent to another node, which would be next. */
__noinline int filter_behind(__u32 node) {
    struct question *question = AT(questions, 0);

    return question && !question->exempt ? filter_node(question, node) : 0;
}

static __always_inline bool is_refused(struct xdp_md *ctx, const struct packet *packet,
                                       const struct listener *listener, __be16 source_port) {
    if (!ask_about(ctx, packet, listener->filter, listener->counts, source_port))
        return true;
    if (filter_held(filter_before(ctx)) || filter_held(filter_rates()))
        return true;
    peer_spoke(ctx);
    return false;
}

static __always_inline bool is_over_node(const struct node *node) {
    return filter_held(filter_behind(node->budget));
}

/* Whether a reply is more than its receiver may be sent yet. */
static __always_inline bool is_unproven(struct xdp_md *ctx, const struct packet *packet,
                                        const struct reply *reply, __be16 client_port) {
    struct question *question = ask_about(ctx, packet, reply->filter, reply->counts, client_port);

    if (question)
        __builtin_memcpy(question->source, packet->destination, 16);
    return filter_held(peer_answered(ctx));
}

#endif
