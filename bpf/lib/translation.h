/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of a full-nat port: one word, changed by compare-and-swap only, so that no two CPUs take the
 * same.
 *
 *     deadline 32 | generation 24 | marks 8
 *
 * Deadlines are in flow ticks since the machine started, which 32 bits hold for 36 years. A port whose
 * deadline has come is free.
 */
#ifndef POINTSMAN_TRANSLATION_H
#define POINTSMAN_TRANSLATION_H

#include "bytes.h"

#define TRANSLATION_LIVE 1         /* what stands beside the state is whole */
#define TRANSLATION_CLIENT_ENDED 2 /* TCP: the client has sent a FIN */
#define TRANSLATION_NODE_ENDED 4
#define TRANSLATION_ENDED (TRANSLATION_CLIENT_ENDED | TRANSLATION_NODE_ENDED)
#define TRANSLATION_GENERATION 0xffffff00ull

/*
 * The node may hold the connection in TIME_WAIT for a minute after its last segment, and would take another
 * client's SYN from the same port for an old one (RFC 9293 section 3.6.1). One tick more, as ticks are begun
 * ones.
 */
#define TRANSLATION_CLOSING_TICKS 226
#define TRANSLATION_CLAIM_TICKS 8 /* how long a program may take to write a translation down */

static __always_inline bool translation_is_free(__u64 state, __u32 now) {
    return (__u32)(state >> 32) <= now;
}

static __always_inline bool translation_is_live(__u64 state, __u32 now) {
    return state & TRANSLATION_LIVE && !translation_is_free(state, now);
}

/* Whether both states are the same use of the port. */
static __always_inline bool translation_is_same(__u64 one, __u64 other) {
    return !((one ^ other) & TRANSLATION_GENERATION);
}

/* A free port's next state: taken, but not written down yet. */
static __always_inline __u64 translation_claimed(__u64 state, __u32 now) {
    __u64 generation = (state + 0x100) & TRANSLATION_GENERATION;

    return (__u64)(now + TRANSLATION_CLAIM_TICKS) << 32 | generation;
}

/*
 * The state after a packet that ended what `ended` says; `opens`: it begins a connection anew. A connection
 * that has ended from both sides is kept for a minute more.
 */
static __always_inline __u64 translation_heard(__u64 state, __u32 now, __u32 ticks, __u32 ended, bool opens) {
    __u64 marks = (opens ? 0 : state & TRANSLATION_ENDED) | ended | TRANSLATION_LIVE;

    if ((marks & TRANSLATION_ENDED) == TRANSLATION_ENDED)
        ticks = TRANSLATION_CLOSING_TICKS;
    return (__u64)(now + ticks) << 32 | (state & TRANSLATION_GENERATION) | marks;
}

#endif
