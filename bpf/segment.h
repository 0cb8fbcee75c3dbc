/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The segment size that a client's SYN asks for (RFC 9293 section 3.7.1). */
#ifndef POINTSMAN_SEGMENT_H
#define POINTSMAN_SEGMENT_H

#include "choose.h"

#define TCP_HEADER 20
#define OPTIONS_READ 10 /* options before that of the segment size, at most */
#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_SEGMENT 2

/* Lower what a SYN says to what fits `mtu`; other segments, and SYNs without the option, stay as they are. */
static __always_inline void clamp_segments(const struct packet *packet, __u32 mtu) {
    __u32 network = packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
    __u8 *tcp = packet->l4, *option;
    __u32 size, delta, at = TCP_HEADER;
    __be16 *checksum, *most, fits;

    if (packet->protocol != IPPROTO_TCP || tcp + TCP_HEADER > (__u8 *)packet->end || !(tcp[13] & TCP_SYN) ||
        mtu <= network + TCP_HEADER)
        return;
    size = (tcp[12] >> 4) * 4;
    checksum = (__be16 *)(tcp + TCP_CHECKSUM);
    fits = swap16((__u16)(mtu - network - TCP_HEADER));
#pragma unroll
    for (int read = 0; read < OPTIONS_READ; read++) {
        option = tcp + (at & 0x3f);
        OPAQUE(option);
        if (at + 4 > size || option + 4 > (__u8 *)packet->end || option[0] == OPTION_END)
            return;
        if (option[0] == OPTION_SEGMENT && option[1] == 4)
            break;
        at += option[0] == OPTION_NOTHING ? 1 : option[1];
        if (read == OPTIONS_READ - 1)
            return;
    }
    most = (__be16 *)(option + 2);
    if (swap16(*most) <= swap16(fits))
        return;
    /* Where the option lies at an odd place, its bytes are the other way round in the checksum's words. */
    delta = at & 1 ? delta16(swap16(*most), swap16(fits)) : delta16(*most, fits);
    *most = fits;
    *checksum = checksum_update(*checksum, delta);
}

#endif
