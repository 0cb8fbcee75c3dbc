// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The XDP data plane: one program on every interface of the gateway, in both directions, and those that it
 * tail-calls for what is rare.
 */
#include "error.h"
#include "frame.h"
#include "full_nat_icmp.h"
#include "full_nat_way.h"
#include "guard.h"
#include "handle.h"
#include "icmp.h"
#include "odd.h"
#include "tunnel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int pointsman(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct packet packet = {};
    enum read_as read;

    if (!config)
        return XDP_ABORTED;
    take_sample(ctx, config);
    read = read_plain_link(ctx, config, &packet);
    if (read == READ_PORTS)
        read = read_network(&packet);
    if (read == READ_ODD)
        bpf_tail_call(ctx, &tails, TAIL_ODD);
    else if (read == READ_ICMP)
        bpf_tail_call(ctx, &tails, TAIL_ICMP);
    else if (read == READ_PORTS)
        return handle(ctx, config, &packet);
    return XDP_PASS;
}
