/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as far as the gateway reads it. */
#ifndef POINTSMAN_PACKET_H
#define POINTSMAN_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "lib/bytes.h"
#include "lib/checksum.h"

#define MAPPED __builtin_bswap32(0xffff) /* the third word of an IPv4 address mapped into IPv6 */
#define VLAN_TAGS 2

struct packet {
    void *l3;
    void *l4;  /* UDP or TCP header */
    void *end; /* of the frame */
    __be32 source[4];
    __be32 destination[4];
    __u32 tags; /* bytes of VLAN tags */
    __u32 vlan;
    __u32 interface; /* the one that the kernel would say it came by */
    __u32 port_flags;
    __u32 length; /* from the IP header on, by that header */
    __u32 left;   /* behind the l4 pointer, likewise */
    __u32 out;    /* the interface that the kernel would send it on by */
    __u32 fragment_id;
    __u8 first_fragment;
    __u8 family;
    __u8 protocol;
    __u8 hop_limit;
    __u8 reply;
    __u16 ether_type; /* network order */
};

static __always_inline void map_ipv4(__be32 address[4], __be32 ipv4) {
    address[0] = 0;
    address[1] = 0;
    address[2] = MAPPED;
    address[3] = ipv4;
}

static __always_inline bool same_address(const __be32 one[4], const __be32 other[4]) {
    return one[0] == other[0] && one[1] == other[1] && one[2] == other[2] && one[3] == other[3];
}

/* Whether the kernel would call a packet from there a martian: it is handed to the kernel then, which does.
 */
static __always_inline bool is_martian(__u8 family, const __be32 address[4]) {
    if (family == 4) {
        __u8 first = (__u8)address[3];

        return first == 0 || first == 127 || first >= 224;
    }
    if ((__u8)address[0] == 0xff)
        return true;
    return !address[0] && !address[1] && !address[2] &&
           (address[3] == 0 || address[3] == __builtin_bswap32(1));
}

static __always_inline bool read_ipv4(struct packet *packet, const struct iphdr *ip) {
    packet->family = 4;
    packet->protocol = ip->protocol;
    packet->hop_limit = ip->ttl;
    packet->length = swap16(ip->tot_len);
    map_ipv4(packet->source, ip->saddr);
    map_ipv4(packet->destination, ip->daddr);
    /* What is shorter than it says, or longer than its frame, the kernel drops. */
    return packet->length >= 20 && (__u8 *)packet->end - (__u8 *)ip >= packet->length;
}

static __always_inline bool read_ipv6(struct packet *packet, const struct ipv6hdr *ip) {
    packet->family = 6;
    packet->protocol = ip->nexthdr;
    packet->hop_limit = ip->hop_limit;
    packet->length = swap16(ip->payload_len) + sizeof(*ip);
    __builtin_memcpy(packet->source, &ip->saddr, 16);
    __builtin_memcpy(packet->destination, &ip->daddr, 16);
    return (__u8 *)packet->end - (__u8 *)ip >= packet->length;
}

#endif
