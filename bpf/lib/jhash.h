/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's jhash over a client, as nftables computes `jhash ip saddr . udp sport seed S`, so that both
 * data planes and `pointsman explain` find the same slot. Source: include/linux/jhash.h (Bob Jenkins'
 * lookup3).
 */
#ifndef POINTSMAN_JHASH_H
#define POINTSMAN_JHASH_H

#include "bytes.h"

#define JHASH_INITVAL 0xdeadbeefu

/* Both words that lookup3 leaves well mixed; `c` is what jhash returns. */
struct hash {
    __u32 b;
    __u32 c;
};

static __always_inline __u32 rotate(__u32 word, __u32 by) { return word << by | word >> (32 - by); }

static __always_inline struct hash jhash_final(__u32 a, __u32 b, __u32 c) {
    c = (c ^ b) - rotate(b, 14);
    a = (a ^ c) - rotate(c, 11);
    b = (b ^ a) - rotate(a, 25);
    c = (c ^ b) - rotate(b, 16);
    a = (a ^ c) - rotate(c, 4);
    b = (b ^ a) - rotate(a, 14);
    c = (c ^ b) - rotate(b, 24);
    return (struct hash){b, c};
}

/* `port` as it lies in the packet, in the low half; addresses as they lie in the packet. */
static __always_inline struct hash jhash_client4(__u32 address, __u16 port, __u32 seed) {
    __u32 start = JHASH_INITVAL + 8 + seed;

    return jhash_final(start + address, start + port, start);
}

static __always_inline struct hash jhash_client6(const __u32 address[4], __u16 port, __u32 seed) {
    __u32 start = JHASH_INITVAL + 20 + seed;
    __u32 a = start + address[0], b = start + address[1], c = start + address[2];

    a = (a - c) ^ rotate(c, 4);
    c += b;
    b = (b - a) ^ rotate(a, 6);
    a += c;
    c = (c - b) ^ rotate(b, 8);
    b += a;
    a = (a - c) ^ rotate(c, 16);
    c += b;
    b = (b - a) ^ rotate(a, 19);
    a += c;
    c = (c - b) ^ rotate(b, 4);
    b += a;
    return jhash_final(a + address[3], b + port, c);
}

static __always_inline __u32 reciprocal_scale(__u32 value, __u32 size) {
    return (__u32)(((__u64)value * size) >> 32);
}

#endif
