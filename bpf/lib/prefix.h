/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The network that an address is in. */
#ifndef POINTSMAN_PREFIX_H
#define POINTSMAN_PREFIX_H

#include "bytes.h"

/* The first `bits` (0..32) of a word that lies in network order; the others are 0. */
static __always_inline __u32 prefix_word(__u32 word, __u32 bits) {
    __u64 mask = ~(0xffffffffull >> (bits < 32 ? bits : 32));

    return word & __builtin_bswap32((__u32)mask);
}

/* The first `bits` (0..128) of an address, in place. */
static __always_inline void prefix_of(__u32 address[4], __u32 bits) {
#pragma unroll
    for (int word = 0; word < 4; word++) {
        address[word] = prefix_word(address[word], bits);
        bits = bits > 32 ? bits - 32 : 0;
    }
}

#endif
