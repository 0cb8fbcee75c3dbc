/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many flows nodes have, for schedulers that go by that: counted where entries of the memory of flows are
 * written, and only where some listener wants to know. The count of a label is that of a node, whatever
 * service the flows are of.
 */
#ifndef POINTSMAN_CONNECTIONS_H
#define POINTSMAN_CONNECTIONS_H

#include "count.h"

static __always_inline bool flows_are_counted(void) {
    const struct config *config = AT(settings, 0);

    return config && unlikely(config->flags & CONFIG_COUNT_FLOWS);
}

/* An entry has taken another's place. */
__noinline int recount(__u64 old, __u64 new) {
    if (flow_counts(old)) {
        __s64 *count = AT(connections, flow_label(old));

        if (count)
            __sync_fetch_and_add(count, -1);
    }
    if (flow_counts(new)) {
        __s64 *count = AT(connections, flow_label(new));

        if (count)
            __sync_fetch_and_add(count, 1);
    }
    return 0;
}

/* Put an entry in whatever stands there. */
static __always_inline void write_entry(__u64 *entry, __u64 new) {
    if (likely(!flows_are_counted()))
        *entry = new;
    else
        recount(__sync_lock_test_and_set(entry, new), new);
}

/* Change what was read; where entries are counted, another CPU's change of it in between stands. */
static __always_inline void change_entry(__u64 *entry, __u64 old, __u64 new) {
    if (likely(!flows_are_counted()))
        *entry = new;
    else if (__sync_val_compare_and_swap(entry, old, new) == old && flow_counts(old) != flow_counts(new))
        recount(old, new);
}

#endif
