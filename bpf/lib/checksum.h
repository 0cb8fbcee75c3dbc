/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Internet checksums, kept right by what changed (RFC 1624, equation 3).
 *
 * A delta is the sum of ~old + new over 16-bit words as they lie in memory; deltas add up. One of up to 2^15
 * words fits 32 bits.
 */
#ifndef POINTSMAN_CHECKSUM_H
#define POINTSMAN_CHECKSUM_H

#include "bytes.h"

static __always_inline __u16 checksum_fold(__u32 sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u16)sum;
}

static __always_inline __u32 delta16(__u16 old, __u16 new) { return (__u16)~old + (__u32) new; }

static __always_inline __u32 delta32(__u32 old, __u32 new) {
    return delta16((__u16)old, (__u16) new) + delta16((__u16)(old >> 16), (__u16)(new >> 16));
}

static __always_inline __u16 checksum_update(__u16 checksum, __u32 delta) {
    return (__u16)~checksum_fold((__u16)~checksum + delta);
}

/* UDP's 0 means that there is none (RFC 768): it stays 0, and no other becomes 0. */
static __always_inline __u16 udp_checksum_update(__u16 checksum, __u32 delta) {
    __u16 updated;

    if (!checksum)
        return 0;
    updated = checksum_update(checksum, delta);
    return updated ? updated : 0xffff;
}

/* The sum of the 20 bytes of a plain IPv4 header, folded: 0xffff where the checksum in it is right. */
static __always_inline __u16 ipv4_header_sum(const void *header) {
    __u64 sum = 0;

#pragma unroll
    for (int word = 0; word < 5; word++)
        sum += LOAD(__u32, (const __u8 *)header + 4 * word);
    sum = (sum & 0xffffffff) + (sum >> 32);
    return checksum_fold((__u32)((sum & 0xffff) + (sum >> 16)));
}

#endif
