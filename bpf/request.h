/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is asked of the functions that choose a node, and the tables that they look into. */
#ifndef POINTSMAN_REQUEST_H
#define POINTSMAN_REQUEST_H

#include "memory.h"

#define PROBES 8 /* user space builds tables in which every key is found within so many words */
#define NOWHERE 0xffffffffu

/* The value of a key in an open-addressed table of 2^bits words: key << 32 | value + 1. */
static __always_inline __u32 find_word(__u32 base, __u32 bits, __u32 key) {
    __u32 mask = (1u << (bits & 31)) - 1;
    __u32 slot = (key * 0x9e3779b1u) >> (32 - (bits & 31));

#pragma unroll
    for (__u32 probe = 0; probe < PROBES; probe++) {
        __u64 *word = AT(words, base + ((slot + probe) & mask));

        if (!word || !(__u32)*word)
            break;
        if ((__u32)(*word >> 32) == key)
            return (__u32)*word - 1;
    }
    return NOWHERE;
}

static __always_inline struct node *node_at(const struct listener *listener, __u32 position) {
    return position < listener->node_count ? AT(nodes, listener->nodes + position) : NULL;
}

#endif
