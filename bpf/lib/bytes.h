/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Loads from packets, and what every header here builds on. Pure: no maps, no helpers. */
#ifndef POINTSMAN_BYTES_H
#define POINTSMAN_BYTES_H

#include <linux/types.h>
#include <stdbool.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hashes and deltas are a little-endian machine's");

/* Packets are unaligned by nature. BPF loads them as they are; other machines, and sanitizers, want a copy.
 */
#ifdef __bpf__
#define LOAD(type, at) (*(const type *)(at))
#define STORE(type, at, value) (*(type *)(at) = (value))
#else
#define LOAD(type, at)                                                                                       \
    ({                                                                                                       \
        type loaded;                                                                                         \
        __builtin_memcpy(&loaded, at, sizeof(type));                                                         \
        loaded;                                                                                              \
    })
#define STORE(type, at, value)                                                                               \
    ({                                                                                                       \
        type stored = (value);                                                                               \
        __builtin_memcpy(at, &stored, sizeof(type));                                                         \
    })
#endif

/* Keep the compiler from reasoning about a value that the verifier reasons about otherwise. */
#define OPAQUE(value) asm volatile("" : "+r"(value) : : "memory")

static __always_inline __u16 swap16(__u16 value) { return __builtin_bswap16(value); }

/* Big-endian loads, into the machine's order. */
static __always_inline __u16 load16(const void *at) { return swap16(LOAD(__u16, at)); }

static __always_inline __u64 load64(const void *at) { return __builtin_bswap64(LOAD(__u64, at)); }

static __always_inline __u8 load8(const void *at) { return LOAD(__u8, at); }

#endif
