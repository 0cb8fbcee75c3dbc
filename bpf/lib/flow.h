/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The memory of flows: buckets of eight 64-bit entries, a cache line each. A flow may lie in either bucket of
 * a pair, two lines side by side.
 *
 *     tag 24 | label 16 | class 2 | deadline 22
 *
 * Every change is one 64-bit store, so a reader never sees half an entry. A tag is a part of the client's
 * hash: two clients that share it, once in some million look-ups, share a node
 * (docs/adr/0015-flow-memory.md).
 */
#ifndef POINTSMAN_FLOW_H
#define POINTSMAN_FLOW_H

#include "bytes.h"
#include "jhash.h"

#define FLOW_WAYS 8
#define FLOW_TICK_SHIFT 28 /* a tick is 2^28 ns, 0.27 s */
#define FLOW_DEADLINE_BITS 22
#define FLOW_DEADLINE_MASK ((1u << FLOW_DEADLINE_BITS) - 1)
#define FLOW_HALF (1u << (FLOW_DEADLINE_BITS - 1))

/* What was seen of a flow; a flow makes room only for those that are worth more than it. */
enum flow_class {
    FLOW_NEW = 0,
    FLOW_ANSWERED = 1, /* the node has sent something back that it sends no stranger */
    FLOW_CLOSING = 2,  /* TCP: a FIN or RST was seen */
    FLOW_NETWORK = 3,  /* no flow: the node of a client network, by affinity */
};

/* Which pair of a table a client's flow may lie in, still to be scaled, and its tag. */
struct flow_place {
    __u32 pair;
    __u32 tag; /* 1..2^24-1: an empty entry is 0 */
};

static __always_inline struct flow_place flow_place(struct hash client, __u64 salt) {
    __u64 mixed = (((__u64)client.b << 32 | client.c) ^ salt) * 0x9e3779b97f4a7c15ull;
    __u32 tag;

    mixed ^= mixed >> 29;
    mixed *= 0xbf58476d1ce4e5b9ull;
    tag = (__u32)(mixed >> 40);
    return (struct flow_place){(__u32)mixed ^ (__u32)(mixed >> 32), tag ? tag : 1};
}

/* The bucket that is looked into first, in a table of `pairs`; the other one differs in the lowest bit. */
static __always_inline __u32 flow_bucket(struct flow_place place, __u32 pairs) {
    return reciprocal_scale(place.pair, pairs) * 2 + (place.tag & 1);
}

static __always_inline __u64 flow_entry(__u32 tag, __u32 label, __u32 class, __u32 deadline) {
    return (__u64)tag << 40 | (__u64)(label & 0xffff) << 24 | (__u64)(class & 3) << FLOW_DEADLINE_BITS |
           (deadline & FLOW_DEADLINE_MASK);
}

static __always_inline __u32 flow_tag(__u64 entry) { return (__u32)(entry >> 40); }

static __always_inline __u32 flow_label(__u64 entry) { return (__u32)(entry >> 24) & 0xffff; }

static __always_inline __u32 flow_class(__u64 entry) { return (__u32)(entry >> FLOW_DEADLINE_BITS) & 3; }

static __always_inline __u32 flow_deadline(__u64 entry) { return (__u32)entry & FLOW_DEADLINE_MASK; }

static __always_inline __u32 flow_ticks(__u64 nanoseconds) { return (__u32)(nanoseconds >> FLOW_TICK_SHIFT); }

/* Ticks that are left, 0 where the time is over (or so far off that it must have gone round). */
static __always_inline __u32 flow_left(__u64 entry, __u32 now) {
    __u32 left = (flow_deadline(entry) - now) & FLOW_DEADLINE_MASK;

    return left < FLOW_HALF ? left : 0;
}

/* All ones where a value below 2^63 is 0, or where a difference is negative: so much work without a branch.
 */
static __always_inline __u64 mask_if_zero(__u64 value) {
    value = (__u64)((__s64)(value - 1) >> 63);
    OPAQUE(value); /* else clang makes branches of it again */
    return value;
}

static __always_inline __u64 mask_if_negative(__u64 value) {
    value = (__u64)((__s64)value >> 63);
    OPAQUE(value);
    return value;
}

/*
 * The way of the entry with this tag, over or not; FLOW_WAYS where there is none. Without branches: the
 * processor cannot guess them, and the verifier would follow every way there is.
 */
static __always_inline __u32 flow_find(const __u64 *bucket, __u32 tag) {
    __u64 found = FLOW_WAYS;

#pragma unroll
    for (__u64 way = 0; way < FLOW_WAYS; way++) {
        __u64 same = mask_if_zero((bucket[way] >> 40) ^ tag);

        found = (found & ~same) | (way & same);
        OPAQUE(found);
    }
    return (__u32)found;
}

/*
 * The way that a new flow takes: an empty or expired one, else the flow nearest to its end that is unanswered
 * or closing; `worth` is what is left of it. FLOW_WAYS where every flow in the bucket has seen an answer:
 * those make room for nobody, and are worth more than any other.
 */
static __always_inline __u32 flow_victim(const __u64 *bucket, __u32 now, __u32 ways, __u32 *worth) {
    const __u64 never = 1ull << 40;
    __u64 best = never;

#pragma unroll
    for (__u64 way = 0; way < FLOW_WAYS; way++) {
        __u64 left = (flow_deadline(bucket[way]) - now) & FLOW_DEADLINE_MASK;
        __u64 kept, cost;

        left &= ~(mask_if_negative(FLOW_HALF - 1 - left) | mask_if_zero(bucket[way] >> 40));
        kept = mask_if_zero(flow_class(bucket[way]) ^ FLOW_ANSWERED) & ~mask_if_zero(left);
        kept |= mask_if_negative((__u64)ways - 1 - way);
        cost = left << 4 | way | (kept & never);
        best += (cost - best) & mask_if_negative(cost - best);
        OPAQUE(best); /* one way after the other: all at once do not fit BPF's stack */
    }
    *worth = best & never ? ~0u : (__u32)(best >> 4);
    return best & never ? FLOW_WAYS : (__u32)best & (FLOW_WAYS - 1);
}

/* Whether the entry is a flow that loads its node; one that is over does so until it is swept away. */
static __always_inline bool flow_counts(__u64 entry) { return entry && flow_class(entry) < FLOW_CLOSING; }

/* The entry as it is to be kept: 0 where it is over, before its deadline goes round and seems far off again.
 */
static __always_inline __u64 flow_swept(__u64 entry, __u32 now) {
    __u64 left = (flow_deadline(entry) - now) & FLOW_DEADLINE_MASK;

    return entry & mask_if_negative(left - FLOW_HALF) & ~mask_if_zero(left);
}

#endif
