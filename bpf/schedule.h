/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which node a new flow goes to. `words` has a listener's slots: Maglev's table, or the nodes in the order of
 * their turns, each as often as its weight says.
 */
#ifndef POINTSMAN_SCHEDULE_H
#define POINTSMAN_SCHEDULE_H

#include "request.h"

static __always_inline __u32 position_of_slot(const struct listener *listener, __u32 slot) {
    __u64 *word = AT(words, listener->slots + slot / 4);

    return word ? (__u16)(*word >> (slot % 4 * 16)) : NOWHERE;
}

static __always_inline __u32 any_slot(const struct listener *listener) {
    return reciprocal_scale(bpf_get_prandom_u32(), listener->slot_count);
}

/* All CPUs take turns from one counter, so proportions are exact whichever CPU flows come to. */
static __always_inline __u32 next_slot(const struct listener *listener) {
    __u64 *turn = AT(turns, listener->turn);

    return turn ? (__u32)(__sync_fetch_and_add(turn, 1) % listener->slot_count) : 0;
}

#define MOST_COMPARED 64 /* nodes of which every one is looked at; of more, some at random */
#define COMPARED_OF_MANY 8

/* The position of the node with the fewest flows for its weight. */
__noinline int least_connected(const struct listener *listener) {
    __u32 start = bpf_get_prandom_u32(), count, compared, best = NOWHERE;
    __u64 least = 0, least_weight = 1;

    if (!listener || !listener->slot_count)
        return -1;
    count = listener->slot_count;
    compared = count > MOST_COMPARED ? COMPARED_OF_MANY : count;
    for (__u32 at = 0; at < MOST_COMPARED; at++) {
        __u32 slot, position;
        struct node *node;
        __s64 *flows;
        __u64 load;

        if (at >= compared)
            break;
        /* From anywhere on, so that of equals it is not always the first. */
        slot = count > MOST_COMPARED ? any_slot(listener) : (start % count + at) % count;
        position = position_of_slot(listener, slot);
        node = node_at(listener, position);
        flows = node ? AT(connections, node->label) : NULL;
        if (!flows)
            continue;
        load = *flows > 0 ? (__u64)*flows + 1 : 1;
        if (best == NOWHERE || load * least_weight < least * node->weight) {
            best = position;
            least = load;
            least_weight = node->weight;
        }
    }
    return (int)best;
}

#define SWEEP_SHIFT 36 /* a table is swept in 2^36 ns, 69 s, where new flows come often enough */
#define SWEEP_MOST 64  /* buckets for each new flow */

/*
 * Clear what is over out of so many buckets that counts are not those of long ago: flows that end in silence,
 * as all of UDP do, count until they are swept away.
 */
__noinline int sweep_more(const struct listener *listener) {
    struct scratch *note = AT(scratch, 0);
    __u64 clock = bpf_ktime_get_coarse_ns(), buckets, due;

    if (!listener || !note)
        return 0;
    buckets = 2 * (__u64)listener->flows.pairs;
    due = ((clock - note->sweep_due) >> 10) * buckets >> (SWEEP_SHIFT - 10);
    if (due > SWEEP_MOST)
        due = SWEEP_MOST;
    if (due)
        note->sweep_due = clock;
    for (__u32 swept = 0; swept < SWEEP_MOST; swept++) {
        struct bucket *bucket;

        if (swept >= due)
            break;
        note->sweeping += 0x9e3779b1u;
        bucket = AT(flows, listener->flows.base + reciprocal_scale(note->sweeping, (__u32)buckets));
        if (bucket)
            sweep_bucket(bucket, flow_ticks(clock));
    }
    return (int)due;
}

/* The position of a new flow's node; NOWHERE where no node takes one. */
static __always_inline __u32 schedule(const struct listener *listener, struct hash client) {
    __u32 slot;

    if (!listener->slot_count)
        return NOWHERE;
    if (unlikely(listener->scheduler == SCHEDULER_LEAST_CONNECTIONS))
        return (__u32)least_connected(listener);
    if (likely(listener->scheduler == SCHEDULER_MAGLEV))
        slot = reciprocal_scale(client.c, listener->slot_count);
    else if (listener->scheduler == SCHEDULER_ROUND_ROBIN)
        slot = next_slot(listener);
    else
        slot = any_slot(listener);
    return position_of_slot(listener, slot);
}

#endif
