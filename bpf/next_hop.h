/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where packets leave: the kernel's routes and neighbours by bpf_fib_lookup, believed for config.next_hop_age
 * (docs/adr/0016-next-hops.md).
 */
#ifndef POINTSMAN_NEXT_HOP_H
#define POINTSMAN_NEXT_HOP_H

#include "count.h"
#include "packet.h"

enum way {
    WAY_KNOWN = 0,
    WAY_BY_KERNEL,    /* it has to find the neighbour, or the device cannot be redirected to */
    WAY_ENCAPSULATED, /* by a route that adds a header: the kernel's to do */
    WAY_NONE,         /* no route, or one that forbids */
    WAY_NOT_OURS,     /* the kernel would not forward here */
};

static __always_inline struct port *port_of(const struct config *config, __u32 interface) {
    struct port *port = AT(ports, (interface * config->port_multiplier) >> 24 & (PORTS - 1));

    return port && port->interface == interface ? port : NULL;
}

static __always_inline bool is_fresh(const struct config *config, const struct next_hop *hop, __u32 ingress,
                                     __u32 now) {
    return hop->interface && hop->ingress == ingress && now - hop->born < config->next_hop_age &&
           hop->generation == config->next_hop_generation;
}

static __always_inline bool leaves_by(const struct config *config, const struct packet *packet,
                                      struct next_hop *hop, __u32 interface) {
    struct port *port = port_of(config, interface);

    if (!port)
        return false;
    /* Native frames can only be handed to devices that have native XDP as well. */
    if (!(packet->port_flags & PORT_GENERIC) && !(port->flags & PORT_NATIVE))
        return false;
    hop->interface = port->lower;
    hop->vlan = port->vlan;
    return true;
}

/* Ask the kernel. `source` and `destination` are those that routing goes by. */
static __always_inline enum way ask_way(struct xdp_md *ctx, const struct config *config,
                                        struct packet *packet, const __be32 source[4],
                                        const __be32 destination[4], struct next_hop *hop, __u32 now) {
    struct scratch *note = AT(scratch, 0);
    struct bpf_fib_lookup *fib;
    long result;

    if (!note)
        return WAY_NONE;
    fib = &note->fib; /* a program's stack has better uses */
    __builtin_memset(fib, 0, sizeof(*fib));
    fib->ifindex = packet->interface;
    fib->l4_protocol = packet->protocol;
    fib->tot_len = (__u16)packet->length; /* the MTU is looked at before the neighbour */
    if (packet->family == 4) {
        fib->family = 2; /* AF_INET */
        fib->ipv4_src = source[3];
        fib->ipv4_dst = destination[3];
    } else {
        fib->family = 10; /* AF_INET6 */
        __builtin_memcpy(fib->ipv6_src, source, 16);
        __builtin_memcpy(fib->ipv6_dst, destination, 16);
    }
    result = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
    packet->out = fib->ifindex;
    hop->mtu = 0;
    switch (result) {
    case BPF_FIB_LKUP_RET_SUCCESS:
        break;
    case BPF_FIB_LKUP_RET_NO_NEIGH:
        return WAY_BY_KERNEL;
    case BPF_FIB_LKUP_RET_UNSUPP_LWT:
        return WAY_ENCAPSULATED;
    case BPF_FIB_LKUP_RET_FRAG_NEEDED:
        hop->mtu = fib->mtu_result;
        return WAY_BY_KERNEL;
    case BPF_FIB_LKUP_RET_FWD_DISABLED:
    case BPF_FIB_LKUP_RET_NOT_FWDED: /* for the gateway itself: what a program on it asked a node */
        return WAY_NOT_OURS;
    default:
        return WAY_NONE;
    }
    hop->mtu = fib->mtu_result;
    /*
     * The kernel asks a neighbour whether it is still there when it sends to it, and here it does not: so it
     * is given one packet in a while. Else a neighbour that moved without a word would never be noticed.
     */
    if (!(packet->port_flags & PORT_NO_META) && now - hop->confirmed >= config->confirm_age) {
        hop->confirmed = now;
        return WAY_BY_KERNEL;
    }
    hop->born = now;
    hop->generation = config->next_hop_generation - (config->flags & CONFIG_ASK_ALWAYS);
    hop->ingress = packet->interface;
    __builtin_memcpy(hop->destination, fib->dmac, 6);
    __builtin_memcpy(hop->source, fib->smac, 6);
    if (!leaves_by(config, packet, hop, fib->ifindex))
        return WAY_BY_KERNEL;
    return WAY_KNOWN;
}

/* The place in the memory of next hops for what a node sends to a client. */
static __always_inline struct destination *destination_of(const struct config *config,
                                                          const __be32 address[4], __u32 hot_index) {
    __u64 mixed = ((__u64)address[0] << 32 | address[3]) * 0x9e3779b97f4a7c15ull;
    __u32 index;

    mixed ^= ((__u64)address[1] << 32 | (address[2] ^ hot_index)) * 0xbf58476d1ce4e5b9ull;
    mixed ^= mixed >> 32;
    index = (__u32)(mixed ^ mixed >> 17) & config->destinations_mask;
    return AT(destinations, bpf_get_smp_processor_id() * (config->destinations_mask + 1) + index);
}

#endif
