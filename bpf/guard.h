/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filter before a server on this machine: a program of its own, on interfaces that no service uses. What
 * it does not drop goes on as if it were not there.
 */
#ifndef POINTSMAN_GUARD_H
#define POINTSMAN_GUARD_H

#include "budget.h"
#include "frame.h"
#include "odd.h"

/* The filter that guards a port of the interface that a frame came by, 0: none. */
static __always_inline __u32 guard_of(const struct config *config, __u32 interface, __be16 port) {
    struct guarded *own = bpf_map_lookup_elem(&guarded, &interface);
    __u32 number = swap16(port), first;
    __u64 *word;

    if (!own)
        return 0;
    first = own->ports[config->active & 1];
    if (!first)
        return 0;
    word = AT(guard_ports, first - 1 + number / 4);
    return word ? (__u16)(*word >> (number % 4 * 16)) : 0;
}

/* Whether the kernel would deliver it here, and not send it on; believed for as long as a next hop is. */
static __always_inline bool is_delivered(struct xdp_md *ctx, const struct config *config,
                                         const struct packet *packet, struct question *question) {
    struct bpf_fib_lookup fib = {.ifindex = packet->interface, .l4_protocol = IPPROTO_UDP};
    __u32 now = (__u32)bpf_jiffies64();
    long result;

    if (likely(question->local_interface == packet->interface &&
               now - question->local_born < config->next_hop_age &&
               same_address(question->local, packet->destination)))
        return true;
    if (packet->family == 4) {
        fib.family = 2; /* AF_INET */
        fib.ipv4_src = packet->source[3];
        fib.ipv4_dst = packet->destination[3];
    } else {
        fib.family = 10; /* AF_INET6 */
        __builtin_memcpy(fib.ipv6_src, packet->source, 16);
        __builtin_memcpy(fib.ipv6_dst, packet->destination, 16);
    }
    result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
    if (result != BPF_FIB_LKUP_RET_NOT_FWDED && result != BPF_FIB_LKUP_RET_FWD_DISABLED)
        return false;
    __builtin_memcpy(question->local, packet->destination, 16);
    question->local_interface = packet->interface;
    question->local_born = now;
    return true;
}

/*
 * A packet for this machine of which nobody here can tell the port, and the kernel could: it may be a guarded
 * one. Port 0, which no server has, has the filter that judges these.
 */
static __always_inline int guard_unread(struct xdp_md *ctx, const struct config *config,
                                        const struct packet *packet) {
    __u32 filter = guard_of(config, packet->interface, 0);
    struct question *question = AT(questions, 0);
    struct filter_rule *rule = AT(filter_rules, filter);

    if (!filter || !question || !rule)
        return XDP_PASS;
    if (packet->family && !is_delivered(ctx, config, packet, question))
        return XDP_PASS;
    question->filter = filter;
    question->counts = rule->counts;
    question->length = packet->length;
    return filter_held(HELD(LISTENER_UNREAD)) ? XDP_DROP : XDP_PASS;
}

static __always_inline int guard(struct xdp_md *ctx, const struct config *config,
                                 const struct packet *packet) {
    const __be16 *ports = packet->l4;
    struct question *question;
    struct filter_rule *rule;
    __u32 filter;
    int held;

    if ((__u8 *)packet->l4 + 8 > (__u8 *)packet->end || packet->protocol != IPPROTO_UDP || packet->left < 8 ||
        !ports[1])
        return XDP_PASS;
    filter = guard_of(config, packet->interface, ports[1]);
    if (!filter)
        return XDP_PASS;
    rule = AT(filter_rules, filter);
    if (!rule)
        return XDP_PASS;
    question = ask_about(ctx, packet, filter, rule->counts, ports[0]);
    if (!question)
        return XDP_PASS;
    held = filter_form(ctx, rule, question);
    if (!held)
        held = filter_source(filter);
    /* What is sent on takes nothing from the server's budgets. */
    if ((held || (question->records.kinds & (RECORD_HELLO | RECORD_CID) && !question->exempt)) &&
        !is_delivered(ctx, config, packet, question))
        return XDP_PASS;
    if (!held && !question->exempt)
        held = filter_budgets(question);
    return filter_held(held) ? XDP_DROP : XDP_PASS;
}

static __always_inline bool is_tag(__be16 ether_type) {
    return ether_type == swap16(ETH_P_8021Q) || ether_type == swap16(ETH_P_8021AD);
}

/*
 * Tags are not looked behind, but for those of VLAN 0, which the kernel takes off, however many: what has
 * others arrives at another interface. The ether type is a tag's where there are more of VLAN 0 than are
 * read.
 */
static __always_inline bool read_guarded_link(struct xdp_md *ctx, struct packet *packet) {
    struct ethhdr *ethernet = (void *)(long)ctx->data;

    packet->end = (void *)(long)ctx->data_end;
    packet->l3 = ethernet + 1;
    if (packet->l3 > packet->end)
        return false;
    packet->interface = ctx->ingress_ifindex;
    packet->ether_type = ethernet->h_proto;
    packet->length = (__u32)(packet->end - (void *)ethernet);
#pragma unroll
    for (int tag = 0; is_tag(packet->ether_type); tag++) {
        __be16 *vlan = packet->l3;

        if ((void *)(vlan + 2) > packet->end || vlan[0] & swap16(0xfff))
            return false;
        if (tag == VLAN_TAGS)
            return true;
        packet->ether_type = vlan[1];
        packet->l3 = vlan + 2;
    }
    return packet->ether_type == swap16(ETH_P_IP) || packet->ether_type == swap16(ETH_P_IPV6);
}

SEC("xdp")
int pointsman_guard(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct packet packet = {};
    enum read_as read;

    if (!config || !read_guarded_link(ctx, &packet))
        return XDP_PASS;
    take_sample(ctx, config);
    if (is_tag(packet.ether_type))
        return guard_unread(ctx, config, &packet);
    read = read_network(&packet);
    if (read == READ_PORTS)
        return guard(ctx, config, &packet);
    if (read == READ_ODD)
        bpf_tail_call(ctx, &tails, TAIL_GUARD_ODD);
    return XDP_PASS;
}

/* Options, extension headers and fragments, of which only the first one shows what it is. */
SEC("xdp")
int pointsman_guard_odd(struct xdp_md *ctx) {
    const struct config *config = AT(settings, 0);
    struct packet packet = {};
    enum part part;

    if (!config || !read_guarded_link(ctx, &packet))
        return XDP_PASS;
    if (packet.ether_type == swap16(ETH_P_IP)) {
        part = read_odd_ipv4(&packet);
    } else {
        part = read_odd_ipv6(&packet);
        if (part == PART_NONE || (part != PART_LATER && is_extension(packet.protocol)))
            return guard_unread(ctx, config, &packet);
    }
    if (part != PART_WHOLE && part != PART_FIRST)
        return XDP_PASS;
    packet.first_fragment = part == PART_FIRST;
    return guard(ctx, config, &packet);
}

#endif
