/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The memory of flows in its map; lib/flow.h has the arithmetic. */
#ifndef POINTSMAN_MEMORY_H
#define POINTSMAN_MEMORY_H

#include "connections.h"
#include "packet.h"

/* A flow's two buckets, and the entry where it was found. */
struct memory {
    struct flow_place place;
    struct bucket *first;
    struct bucket *other;
    __u64 *entry; /* NULL: not remembered */
    __u64 *stale; /* what was remembered of the same client before, and is over */
};

static __always_inline __u64 *entry_in(struct bucket *bucket, __u32 tag, __u32 now, struct memory *memory) {
    __u32 way = flow_find(bucket->way, tag);
    __u64 *entry = &bucket->way[way & (FLOW_WAYS - 1)];

    if (way >= FLOW_WAYS)
        return NULL;
    if (flow_left(*entry, now))
        return entry;
    memory->stale = entry;
    return NULL;
}

static __always_inline bool recall(const struct flow_table *table, struct hash client, __u32 now,
                                   struct memory *memory) {
    __u32 bucket;

    memory->place = flow_place(client, table->salt);
    memory->entry = NULL;
    memory->stale = NULL;
    memory->other = NULL;
    bucket = flow_bucket(memory->place, table->pairs);
    memory->first = AT(flows, table->base + bucket);
    if (!memory->first)
        return false;
    memory->entry = entry_in(memory->first, memory->place.tag, now, memory);
    if (memory->entry)
        return true;
    memory->other = AT(flows, table->base + (bucket ^ 1));
    if (memory->other)
        memory->entry = entry_in(memory->other, memory->place.tag, now, memory);
    return memory->entry;
}

#define SWEEP_EVERY 4 /* new flows, a power of two */

__noinline int sweep_bucket(struct bucket *bucket, __u32 now) {
    if (!bucket)
        return 0;
#pragma unroll
    for (int way = 0; way < FLOW_WAYS; way++) {
        __u64 entry = bucket->way[way], kept = flow_swept(entry, now);

        if (kept != entry)
            change_entry(&bucket->way[way], entry, kept);
    }
    return 0;
}

/*
 * Clear what is over out of one bucket of the table, each time of another: whatever nobody comes to see any
 * more would seem to have days to live again when its deadline has gone round. The step is that of the golden
 * ratio, which comes to all parts of a table of any size.
 */
static __always_inline void sweep(const struct flow_table *table, __u32 now) {
    struct scratch *note = AT(scratch, 0);
    struct bucket *bucket;

    if (!note || ++note->swept & (SWEEP_EVERY - 1))
        return;
    note->sweeping += 0x9e3779b1u;
    bucket = AT(flows, table->base + reciprocal_scale(note->sweeping, 2 * table->pairs));
    if (bucket)
        sweep_bucket(bucket, now);
}

/* Remember a flow that is not remembered yet, or in the place of `entry`; false where no room is to be had.
 */
static __always_inline bool remember(const struct flow_table *table, struct memory *memory, __u32 label,
                                     __u32 class, __u32 ticks, __u32 now) {
    __u32 worth, worth_other, way;
    __u64 *entry = memory->entry ? memory->entry : memory->stale;

    if (!entry) {
        struct bucket *bucket = memory->first;

        if (!bucket)
            return false;
        way = flow_find(bucket->way, 0); /* an empty one, which costs less to find */
        if (way < table->ways) {
            worth = 0;
        } else {
            /* Nobody comes by here more often: else what is over in the other ways would live again one day.
             */
            sweep_bucket(bucket, now);
            way = flow_victim(bucket->way, now, table->ways, &worth);
        }
        if (worth && memory->other) {
            __u32 other = flow_victim(memory->other->way, now, table->ways, &worth_other);

            if (worth_other < worth) {
                way = other;
                bucket = memory->other;
            }
        }
        if (way >= FLOW_WAYS)
            return false;
        entry = &bucket->way[way & (FLOW_WAYS - 1)];
    }
    write_entry(entry, flow_entry(memory->place.tag, label, class, now + ticks));
    return true;
}

/* Keep a flow for `ticks` from now; the line is only written to where that changes something. */
static __always_inline void refresh(__u64 *entry, __u32 class, __u32 ticks, __u32 now) {
    __u64 old = *entry;
    __u64 renewed = flow_entry(flow_tag(old), flow_label(old), class, now + ticks);

    if (renewed != old)
        change_entry(entry, old, renewed);
}

/* The client as the scheduler and the memory hash it. */
static __always_inline struct hash client_hash(const struct flow_table *table, __u8 family,
                                               const __be32 address[4], __be16 port) {
    if (family == 4)
        return jhash_client4(address[3], port, table->hash_seed);
    return jhash_client6(address, port, table->hash_seed);
}

#endif
