/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What other programs go on with: ICMP errors of our own, the kernel's part, later fragments. */
#ifndef POINTSMAN_ASIDE_H
#define POINTSMAN_ASIDE_H

#include "fragment.h"
#include "lookup.h"
#include "rewrite.h"

enum error {
    ERROR_HOP_LIMIT = 0,
    ERROR_TOO_BIG,
};

static __always_inline void ask_for(struct xdp_md *ctx, enum tail program) {
    bpf_tail_call(ctx, &tails, program);
}

/* Have the packet, which is as it came in, answered with an ICMP error from the listener's address. */
static __always_inline int answer_error(struct xdp_md *ctx, const struct packet *packet,
                                        const __be32 source[4], enum error kind, __u32 mtu) {
    struct scratch *note = AT(scratch, 0);

    if (!note)
        return XDP_ABORTED;
    __builtin_memcpy(note->source, source, 16);
    note->l3 = (__u32)(packet->l3 - (void *)(long)ctx->data);
    note->kind = kind;
    note->mtu = mtu;
    note->port_flags = packet->port_flags;
    ask_for(ctx, TAIL_ERROR);
    return XDP_DROP;
}

static __always_inline int by_kernel(struct xdp_md *ctx, const struct packet *packet) {
    struct scratch *note = AT(scratch, 0);

    if (!note)
        return XDP_ABORTED;
    count_gateway(GATEWAY_BY_KERNEL, packet->length);
    note->reply = packet->reply;
    note->interface = packet->out;
    __builtin_memset(note->neighbour, 0, sizeof(note->neighbour));
    ask_for(ctx, TAIL_BY_KERNEL);
    return XDP_DROP;
}

static __always_inline int refuse(struct xdp_md *ctx, const struct config *config,
                                  const struct packet *packet, __u32 counts, enum listener_verdict verdict,
                                  const __be32 source[4], __u32 mtu) {
    count_listener(config, counts, verdict, packet->length);
    tell(config, EVENT_LISTENER | verdict, counts);
    if (verdict == LISTENER_NO_ROUTE)
        return XDP_DROP;
    return answer_error(ctx, packet, source, verdict == LISTENER_TOO_BIG ? ERROR_TOO_BIG : ERROR_HOP_LIMIT,
                        mtu);
}

#endif
