/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading a frame up to the header that has ports; what is rare goes to programs of its own. */
#ifndef POINTSMAN_FRAME_H
#define POINTSMAN_FRAME_H

#include "next_hop.h"

enum read_as {
    READ_PASS = 0, /* nothing of ours, or nothing that the kernel would forward */
    READ_PORTS,
    READ_ODD,
    READ_ICMP,
};

#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */

static __always_inline bool is_for(const struct ethhdr *ethernet, const struct port *port) {
    return LOAD(__u32, ethernet->h_dest) == LOAD(__u32, port->mac) &&
           LOAD(__u16, ethernet->h_dest + 4) == LOAD(__u16, port->mac + 4);
}

/* Ethernet and VLAN tags (802.1Q, 802.1ad); false for what is not addressed to an interface of the gateway.
 */
static __always_inline bool read_link(struct xdp_md *ctx, const struct config *config,
                                      struct packet *packet) {
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct vlan_key key = {.lower = ctx->ingress_ifindex};
    struct port *port;
    __u32 *interface;

    packet->end = (void *)(long)ctx->data_end;
    packet->l3 = ethernet + 1;
    if (packet->l3 > packet->end)
        return false;
    packet->interface = ctx->ingress_ifindex;
    packet->ether_type = ethernet->h_proto;
    port = port_of(config, packet->interface);
#pragma unroll
    for (int tag = 0; tag < VLAN_TAGS; tag++) {
        __be16 *vlan = packet->l3;

        if (packet->ether_type != swap16(ETH_P_8021Q) && packet->ether_type != swap16(ETH_P_8021AD))
            break;
        if ((void *)(vlan + 2) > packet->end)
            return false;
        key.vlan = key.vlan << 16 | (swap16(vlan[0]) & 0xfff);
        packet->ether_type = vlan[1];
        packet->l3 = vlan + 2;
        packet->tags += 4;
    }
    if (!port)
        return false;
    packet->port_flags = port->flags;
    /* VLAN 0 is none: the tag tells a priority only. */
    if (unlikely(key.vlan)) {
        interface = bpf_map_lookup_elem(&vlans, &key);
        if (!interface)
            return false;
        packet->interface = *interface;
        port = port_of(config, *interface);
        if (!port)
            return false;
    }
    return is_for(ethernet, port);
}

/* A frame without tags: the hot path's. */
static __always_inline enum read_as read_plain_link(struct xdp_md *ctx, const struct config *config,
                                                    struct packet *packet) {
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct port *port = port_of(config, ctx->ingress_ifindex);

    packet->end = (void *)(long)ctx->data_end;
    packet->l3 = ethernet + 1;
    if (packet->l3 > packet->end || !port)
        return READ_PASS;
    packet->interface = ctx->ingress_ifindex;
    packet->port_flags = port->flags;
    packet->ether_type = ethernet->h_proto;
    if (ethernet->h_proto == swap16(ETH_P_8021Q) || ethernet->h_proto == swap16(ETH_P_8021AD))
        return READ_ODD;
    return is_for(ethernet, port) ? READ_PORTS : READ_PASS;
}

/* The IP header, where it is a plain one. */
static __always_inline enum read_as read_network(struct packet *packet) {
    if (packet->ether_type == swap16(ETH_P_IP)) {
        struct iphdr *ip = packet->l3;

        packet->l4 = ip + 1;
        if (packet->l4 > packet->end || ip->version != 4 || ip->ihl < 5)
            return READ_PASS;
        if (ip->ihl > 5 || ip->frag_off & swap16(IPV4_FRAGMENT))
            return READ_ODD;
        if (!read_ipv4(packet, ip) || ipv4_header_sum(ip) != 0xffff)
            return READ_PASS;
        packet->left = packet->length - sizeof(*ip);
    } else if (packet->ether_type == swap16(ETH_P_IPV6)) {
        struct ipv6hdr *ip = packet->l3;

        packet->l4 = ip + 1;
        if (packet->l4 > packet->end || ip->version != 6 || !read_ipv6(packet, ip))
            return READ_PASS;
        packet->left = packet->length - sizeof(*ip);
    } else {
        return READ_PASS;
    }
    switch (packet->protocol) {
    case IPPROTO_UDP:
    case IPPROTO_TCP:
        return READ_PORTS;
    case IPPROTO_ICMP:
        return packet->family == 4 ? READ_ICMP : READ_PASS;
    case IPPROTO_ICMPV6:
        return packet->family == 6 ? READ_ICMP : READ_PASS;
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_FRAGMENT:
    case IPPROTO_DSTOPTS:
        return packet->family == 6 ? READ_ODD : READ_PASS;
    default:
        return READ_PASS;
    }
}

#endif
