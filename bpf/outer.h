/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The header that tunnels put before a packet: IPIP (RFC 2003), IP6IP6 (RFC 2473), or GUE's variant 1, an IP
 * packet right behind a UDP header (draft-ietf-intarea-gue section 4).
 */
#ifndef POINTSMAN_OUTER_H
#define POINTSMAN_OUTER_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "lib/bytes.h"
#include "lib/checksum.h"

#define OUTER_HOPS 64
#define GUE_HEADER 8
#define GUE_PORTS 0xc000 /* the ports that the outer source is one of, by the flow: the dynamic ones */

/* Of a packet: IPv4 addresses are mapped into IPv6. */
struct outer {
    const __be32 *source;
    const __be32 *destination;
    __be16 port; /* GUE's */
    bool gue;
    __u8 class;    /* goes outside as it is, congestion marks too (RFC 6040 section 4.1) */
    __u32 length;  /* of the packet inside */
    __u32 entropy; /* the same for all packets of a flow */
};

static __always_inline __u32 outer_header_bytes(bool ipv4, bool gue) {
    return (ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + (gue ? GUE_HEADER : 0);
}

static __always_inline __u8 traffic_class(const void *l3, bool ipv4) {
    return ipv4 ? load8((const __u8 *)l3 + 1) : (__u8)(load16(l3) >> 4);
}

/* The checksum is none, as RFC 6935 lets tunnels do: what is inside has its own. */
static __always_inline bool write_gue(void *at, const void *end, const struct outer *outer) {
    __be16 *udp = at;

    if ((const void *)(udp + 4) > end)
        return false;
    udp[0] = swap16((__u16)(GUE_PORTS | (outer->entropy & 0x3fff)));
    udp[1] = outer->port;
    udp[2] = swap16((__u16)(outer->length + GUE_HEADER));
    udp[3] = 0;
    return true;
}

static __always_inline bool write_outer_ipv4(void *at, const void *end, const struct outer *outer) {
    struct iphdr *ip = at;

    if ((const void *)(ip + 1) > end)
        return false;
    *(__u32 *)ip = 0;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = outer->class;
    ip->tot_len = swap16((__u16)(outer->length + outer_header_bytes(true, outer->gue)));
    ip->id = 0;
    ip->frag_off = swap16(0x4000); /* what does not fit is answered, never cut up */
    ip->ttl = OUTER_HOPS;
    ip->protocol = outer->gue ? IPPROTO_UDP : IPPROTO_IPIP;
    ip->check = 0;
    ip->saddr = outer->source[3];
    ip->daddr = outer->destination[3];
    ip->check = (__u16)~ipv4_header_sum(ip);
    return !outer->gue || write_gue(ip + 1, end, outer);
}

static __always_inline bool write_outer_ipv6(void *at, const void *end, const struct outer *outer) {
    struct ipv6hdr *ip = at;

    if ((const void *)(ip + 1) > end)
        return false;
    /* Version, class, and a flow label by the flow (RFC 6438). */
    *(__be32 *)ip = __builtin_bswap32(6u << 28 | (__u32)outer->class << 20 | (outer->entropy & 0xfffff));
    ip->payload_len = swap16((__u16)(outer->length + (outer->gue ? GUE_HEADER : 0)));
    ip->nexthdr = outer->gue ? IPPROTO_UDP : IPPROTO_IPV6;
    ip->hop_limit = OUTER_HOPS;
    __builtin_memcpy(&ip->saddr, outer->source, 16);
    __builtin_memcpy(&ip->daddr, outer->destination, 16);
    return !outer->gue || write_gue(ip + 1, end, outer);
}

#endif
