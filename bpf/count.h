/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters, and samples of the packets that were counted. */
#ifndef POINTSMAN_COUNT_H
#define POINTSMAN_COUNT_H

#include "maps.h"

static __always_inline void add(struct counter *counter, __u32 bytes) {
    counter->packets++;
    counter->bytes += bytes;
}

static __always_inline struct hot *hot_of(const struct config *config, __u32 hot_index) {
    return AT(hot, bpf_get_smp_processor_id() * config->hot_stride + hot_index);
}

static __always_inline void count_listener(const struct config *config, __u32 listener,
                                           enum listener_verdict verdict, __u32 bytes) {
    struct listener_counts *counts;

    counts = AT(listener_counts, bpf_get_smp_processor_id() * config->listener_stride + listener);
    if (counts)
        add(&counts->count[verdict], bytes);
}

static __always_inline void count_gateway(enum gateway_verdict verdict, __u32 bytes) {
    struct gateway_counts *counts = AT(gateway_counts, bpf_get_smp_processor_id());

    if (counts)
        add(&counts->count[verdict], bytes);
}

/* Take one packet in config.sample down as it came in; the verdict that it meets is told of with it. */
static __always_inline void take_sample(struct xdp_md *ctx, const struct config *config) {
    const __u8 *data = (void *)(long)ctx->data;
    const __u8 *end = (void *)(long)ctx->data_end;
    struct scratch *note;

    if (likely(!config->sample))
        return;
    note = AT(scratch, 0);
    if (!note)
        return;
    note->sampled = bpf_get_prandom_u32() % config->sample == 0;
    if (!note->sampled)
        return;
    note->event.interface = ctx->ingress_ifindex;
    note->event.length = (__u32)(end - data);
    __builtin_memset(note->event.bytes, 0, sizeof(note->event.bytes));
    for (int at = 0; at < EVENT_BYTES; at += 2, data += 2) {
        OPAQUE(data);
        if (data + 2 > end)
            break;
        *(__u16 *)(note->event.bytes + at) = LOAD(__u16, data);
    }
}

/* Tell user space of the packet, if it is the sampled one. */
static __always_inline void tell(const struct config *config, __u32 verdict, __u32 subject) {
    struct scratch *note;

    if (likely(!config->sample))
        return;
    note = AT(scratch, 0);
    if (!note || !note->sampled)
        return;
    note->sampled = 0;
    note->event.time = bpf_ktime_get_ns();
    note->event.verdict = verdict;
    note->event.subject = subject;
    bpf_ringbuf_output(&events, &note->event, sizeof(note->event), 0);
}

#endif
