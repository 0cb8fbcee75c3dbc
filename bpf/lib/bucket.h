/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Token buckets of one 64-bit word: the time at which the bucket is full again (the generic cell rate
 * algorithm). A packet moves it on by what it costs, and is over the budget where that would be further ahead
 * of the clock than the bucket is deep. Nothing has to be filled up, and one compare-and-swap takes a token.
 * Times are in sixteenths of a nanosecond, so that a quarter of a packet has a price at any rate.
 */
#ifndef POINTSMAN_BUCKET_H
#define POINTSMAN_BUCKET_H

#include "bytes.h"

#define BUCKET_SHIFT 4 /* nanoseconds to the buckets' unit */
#define BUCKET_TRIES 4

struct budget {
    __u64 quarter; /* price of a quarter of a packet, 0: any number may pass */
    __u64 depth;
};

/* What the word becomes, 0 where the packet is over the budget. */
static __always_inline __u64 bucket_after(__u64 full, __u64 now, __u64 price, __u64 depth) {
    __u64 after = (full > now ? full : now) + price;

    return after - now > depth ? 0 : after;
}

/* Take a packet's price from the bucket; false where there is not so much in it. `clock` is in nanoseconds.
 */
static __always_inline bool bucket_take(__u64 *bucket, struct budget budget, __u32 quarters, __u64 clock) {
    __u64 price = budget.quarter * quarters, now = clock << BUCKET_SHIFT;

    if (!budget.quarter)
        return true;
    for (int tries = 0; tries < BUCKET_TRIES; tries++) {
        __u64 full = *(volatile __u64 *)bucket, after = bucket_after(full, now, price, budget.depth);

        if (!after)
            return false;
        if (__sync_val_compare_and_swap(bucket, full, after) == full)
            return true;
    }
    /* Others took from it each time, so it is not behind the clock, and had room just now. */
    __sync_fetch_and_add(bucket, price);
    return true;
}

#endif
