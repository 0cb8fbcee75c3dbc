/* SPDX-License-Identifier: Apache-2.0 */
/* flow.h over one bucket of any content: what it finds, and whom it lets go. */
#include "lib/flow.h"

#include "input.h"

static bool is_live(__u64 entry, __u32 now) { return entry && flow_left(entry, now); }

static bool stays(__u64 entry, __u32 now) {
    return is_live(entry, now) && flow_class(entry) == FLOW_ANSWERED;
}

static void victim_is_worth_least(const __u64 *bucket, __u32 now, __u32 ways) {
    __u32 worth = 0, victim = flow_victim(bucket, now, ways, &worth);
    __u32 least = ~0u;
    for (__u32 way = 0; way < ways; way++)
        if (!stays(bucket[way], now)) {
            __u32 left = is_live(bucket[way], now) ? flow_left(bucket[way], now) : 0;
            least = left < least ? left : least;
        }
    if (least == ~0u) {
        HOLDS(victim == FLOW_WAYS);
        HOLDS(worth >= FLOW_HALF); /* else this bucket looks better than one with room */
        return;
    }
    HOLDS(victim < ways);
    HOLDS(!stays(bucket[victim], now));
    HOLDS(worth == least);
    HOLDS(worth == (is_live(bucket[victim], now) ? flow_left(bucket[victim], now) : 0));
}

static void find_finds(const __u64 *bucket, __u32 tag) {
    __u32 found = flow_find(bucket, tag);
    HOLDS(found <= FLOW_WAYS);
    HOLDS(found == FLOW_WAYS || flow_tag(bucket[found]) == tag);
    for (__u32 way = 0; way < FLOW_WAYS; way++)
        HOLDS(found < FLOW_WAYS || flow_tag(bucket[way]) != tag);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    __u64 bucket[FLOW_WAYS] = {0};
    __u32 now = (__u32)take(&input, 4), ways = 1 + take(&input, 1) % FLOW_WAYS;

    while (input.left) {
        __u32 way = take(&input, 1) % FLOW_WAYS, tag = take(&input, 3) & 0xffffff;
        __u32 label = take(&input, 2), class = take(&input, 1) & 3, ticks = take(&input, 3) % FLOW_HALF;
        tag = tag ? tag : 1;
        bucket[way] = class == 3 ? 0 : flow_entry(tag, label, class, now + ticks);
        if (class < 3) {
            HOLDS(flow_tag(bucket[way]) == tag && flow_label(bucket[way]) == label);
            HOLDS(flow_class(bucket[way]) == class && flow_left(bucket[way], now) == ticks);
        }
        now += take(&input, 2);
        find_finds(bucket, tag);
        victim_is_worth_least(bucket, now, ways);
    }
    return 0;
}
