/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filter before a service, or before a server on this machine. Each question is a function that the
 * verifier follows once; the answer is 0, or a listener's verdict plus 1.
 */
#ifndef POINTSMAN_FILTER_H
#define POINTSMAN_FILTER_H

#include "count.h"
#include "lib/records.h"
#include "packet.h"

#define HELD(verdict) ((verdict) + 1)
#define FILTER_VERDICTS 16 /* from the first on, which is LISTENER_NOT_DTLS */

_Static_assert(LISTENER_UNREAD - LISTENER_NOT_DTLS < FILTER_VERDICTS &&
                   LISTENER_NOT_DTLS + FILTER_VERDICTS <= LISTENER_VERDICTS,
               "a filter's verdicts stand in a row");

/*
 * What is asked about a packet, kept for each CPU: on the stack it would have the verifier follow everything
 * behind it once more. Functions look it up themselves, since older kernels take no key out of an argument.
 */
struct question {
    __be32 source[4];
    __u64 clock;
    __u32 filter;           /* element of `filter_rules` */
    __u32 counts;           /* element of `listener_counts` */
    __u32 length;           /* of the packet, from the IP header on */
    __u32 offset;           /* of the UDP header in the frame */
    __u32 size;             /* of the datagram, by the UDP header */
    __u32 left;             /* of the UDP header and what follows it, by the IP header */
    struct records records; /* an answer */
    struct record_rules rules;
    __u32 exempt; /* allowed whatever it sends, or held against already; an answer */
    __be16 port;
    __u8 family;
    __u8 part; /* the first fragment */
    /* What functions ask the maps with: the stack has no room for it. */
    struct prefix6_key prefix6;
    struct prefix_key prefix;
    struct buckets full;
    struct peer_key peer;
    struct peer fresh;
    struct cookie cookie;
    /* A guard's: the last destination that was delivered here, on which interface, and since when (jiffies).
     */
    __be32 local[4];
    __u32 local_interface;
    __u32 local_born;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct question);
} questions SEC(".maps");

#define NEXT_RECORD (-1)

/* One record: the verifier follows this once, and not for each record that there may be. */
__noinline int filter_record(struct xdp_md *ctx) {
    const __u8 *end = (void *)(long)ctx->data_end, *udp = (void *)(long)ctx->data;
    struct question *question = AT(questions, 0);

    if (!question)
        return 0;
    udp += question->offset & 0xfff;
    if (udp + 8 > end)
        return HELD(LISTENER_BAD_LENGTH);
    switch (records_step(udp + 8, end, question->size, question->rules, &question->records)) {
    case RECORDS_NOT_DTLS:
        return HELD(LISTENER_NOT_DTLS);
    case RECORDS_BAD_LENGTH:
        return HELD(LISTENER_BAD_LENGTH);
    case RECORDS_BAD_EPOCH:
        return HELD(LISTENER_BAD_EPOCH);
    case RECORDS_MORE:
        return NEXT_RECORD;
    default:
        return 0;
    }
}

/* DTLS by its form. */
static __always_inline int filter_form(struct xdp_md *ctx, const struct filter_rule *rule,
                                       struct question *question) {
    question->rules.cid_length = rule->cid_length;
    question->rules.flags = 0;
    if (rule->flags & RULE_DTLS13)
        question->rules.flags |= RECORDS_DTLS13;
    if (rule->flags & RULE_RECORDS && !question->part)
        question->rules.flags |= RECORDS_WALK;
    if (question->size > 65535 || (!question->part && question->size + 8 > question->left))
        return HELD(LISTENER_BAD_LENGTH);
    for (int number = 0; number < RECORDS_MOST; number++) {
        int held = filter_record(ctx);

        if (held != NEXT_RECORD)
            return held;
    }
    return 0;
}

/* PREFIX_ALLOWED or PREFIX_DENIED, by the longest prefix that the source is in; 0: by none. */
static __always_inline __u32 prefix_says(const struct filter_rule *rule, struct question *question) {
    __u32 *said = NULL;

    if (question->family == 4 && rule->flags & RULE_PREFIXES4) {
        struct prefix4_key key = {64, question->filter, question->source[3]};

        said = bpf_map_lookup_elem(&prefixes4, &key);
    } else if (question->family == 6 && rule->flags & RULE_PREFIXES6) {
        question->prefix6.bits = 160;
        question->prefix6.filter = question->filter;
        __builtin_memcpy(question->prefix6.address, question->source, 16);
        said = bpf_map_lookup_elem(&prefixes6, &question->prefix6);
    }
    return said ? *said : 0;
}

static __always_inline bool is_from_dropped_port(const struct filter_rule *rule, __be16 port) {
    __u32 number = swap16(port);
    __u64 *word;

    if (!(rule->flags & RULE_SOURCE_PORTS))
        return false;
    word = AT(source_ports, rule->source_ports + number / 64);
    return word && *word >> number % 64 & 1;
}

/* Where it comes from. */
__noinline int filter_source(__u32 filter) {
    struct question *question = AT(questions, 0);
    struct filter_rule *rule = question ? AT(filter_rules, filter) : NULL;
    __u32 said;

    if (!rule)
        return 0;
    said = prefix_says(rule, question);
    if (said == PREFIX_ALLOWED) {
        question->exempt = 1;
        return 0;
    }
    if (is_from_dropped_port(rule, question->port))
        return HELD(LISTENER_SOURCE_PORT);
    return said == PREFIX_DENIED ? HELD(LISTENER_DENIED) : 0;
}

/* Count what is held against a packet, if anything is; 1 where it is dropped for it. */
__noinline int filter_held(__u32 held) {
    struct question *question = AT(questions, 0);
    const struct config *config = AT(settings, 0);
    struct listener_counts *counts;
    struct filter_rule *rule;
    __u32 verdict;

    if (!held || !question || !config)
        return 0;
    question->exempt = 1; /* one reason is enough */
    rule = AT(filter_rules, question->filter);
    counts = AT(listener_counts, bpf_get_smp_processor_id() * config->listener_stride + question->counts);
    if (!rule || !counts)
        return 0;
    /* By a mask, as older verifiers forget the bounds of what was stored before it was compared. */
    verdict = LISTENER_NOT_DTLS + ((held - HELD(LISTENER_NOT_DTLS)) & (FILTER_VERDICTS - 1));
    add(&counts->count[verdict], question->length);
    if (!(rule->flags & RULE_ENFORCE))
        return 0;
    tell(config, EVENT_LISTENER | verdict, question->counts);
    return 1;
}

static __always_inline struct question *ask_about(struct xdp_md *ctx, const struct packet *packet,
                                                  __u32 filter, __u32 counts, __be16 port) {
    struct question *question = AT(questions, 0);

    if (!question)
        return NULL;
    __builtin_memcpy(question->source, packet->source, 16);
    question->clock = bpf_ktime_get_coarse_ns();
    question->filter = filter;
    question->counts = counts;
    question->length = packet->length;
    question->offset = (__u32)(packet->l4 - (void *)(long)ctx->data);
    question->size = load16((const __u8 *)packet->l4 + 4) - 8u;
    question->left = packet->left;
    question->records.next = 0;
    question->records.kinds = 0;
    question->exempt = 0;
    question->port = port;
    question->family = packet->family;
    question->part = packet->first_fragment;
    return question;
}

#endif
