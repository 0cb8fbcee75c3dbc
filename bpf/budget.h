/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Budgets of ClientHellos and of records with connection IDs (docs/adr/0021-budgets-are-one-word-each.md). */
#ifndef POINTSMAN_BUDGET_H
#define POINTSMAN_BUDGET_H

#include "filter.h"

#define HELLO_QUARTERS 4
#define ANSWER_QUARTERS 1 /* of the ClientHello that brings a cookie back */

static __always_inline __u32 hello_price(__u32 kinds) {
    return kinds & RECORD_ANSWERS ? ANSWER_QUARTERS : HELLO_QUARTERS;
}

/* The buckets of the prefix that the source is in; full ones where it is new. */
static __always_inline struct buckets *prefix_buckets(const struct filter_rule *rule,
                                                      struct question *question) {
    struct prefix_key *key = &question->prefix;
    struct buckets *found;

    key->filter = question->filter;
    key->generation = rule->generation;
    for (int word = 0; word < 4; word++)
        key->address[word] = question->source[word] & (question->family == 4 ? ~0u : rule->mask6[word]);
    if (question->family == 4)
        key->address[3] &= rule->mask4;
    found = bpf_map_lookup_elem(&prefix_budgets, key);
    if (found)
        return found;
    question->full.hello = 0;
    question->full.cid = 0;
    /* Another CPU may be first. */
    bpf_map_update_elem(&prefix_budgets, key, &question->full, BPF_NOEXIST);
    return bpf_map_lookup_elem(&prefix_budgets, key);
}

/* Whether a bucket has no room for the packet. */
static __always_inline bool is_over(struct buckets *buckets, const struct budget *budget, bool hello,
                                    const struct question *question) {
    __u32 price = hello ? hello_price(question->records.kinds) : HELLO_QUARTERS;

    return buckets && !bucket_take(hello ? &buckets->hello : &buckets->cid, *budget, price, question->clock);
}

/* The budgets of its source's prefix, and of all ClientHellos together. */
static __always_inline int filter_budgets(struct question *question) {
    struct filter_rule *rule = AT(filter_rules, question->filter);
    bool hello = question->records.kinds & RECORD_HELLO;
    const struct budget *budget;

    if (!rule || !(question->records.kinds & (RECORD_HELLO | RECORD_CID)))
        return 0;
    budget = hello ? &rule->hello_prefix : &rule->cid_prefix;
    if (budget->quarter && is_over(prefix_buckets(rule, question), budget, hello, question))
        return HELD(hello ? LISTENER_HELLO_OVER_PREFIX : LISTENER_CID_OVER_PREFIX);
    if (hello && rule->hello_total.quarter &&
        is_over(AT(budgets, rule->total), &rule->hello_total, true, question))
        return HELD(LISTENER_HELLO_OVER_TOTAL);
    return 0;
}

/* The budgets of the node that was chosen, whose buckets are element `node` of `budgets`. */
static __always_inline int filter_node(struct question *question, __u32 node) {
    struct filter_rule *rule = AT(filter_rules, question->filter);
    bool hello = question->records.kinds & RECORD_HELLO;
    const struct budget *budget;

    if (!rule || !(question->records.kinds & (RECORD_HELLO | RECORD_CID)))
        return 0;
    budget = hello ? &rule->hello_node : &rule->cid_node;
    if (!is_over(AT(budgets, node), budget, hello, question))
        return 0;
    return HELD(hello ? LISTENER_HELLO_OVER_NODE : LISTENER_CID_OVER_NODE);
}

#endif
