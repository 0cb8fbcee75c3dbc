/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What one program tells another about where a packet's headers are, so that it need not walk them again. */
#ifndef POINTSMAN_NOTED_H
#define POINTSMAN_NOTED_H

#include "packet.h"

enum part {
    PART_WHOLE = 0,
    PART_FIRST,
    PART_LATER,
    PART_NONE, /* not to be read */
};

static __always_inline void note_packet(const struct xdp_md *ctx, struct scratch *note,
                                        const struct packet *packet, enum part part) {
    note->l3 = (__u32)(packet->l3 - (void *)(long)ctx->data);
    note->l4 = (__u32)(packet->l4 - packet->l3);
    note->part = part;
    note->protocol = packet->protocol;
    note->fragment_id = packet->fragment_id;
    note->tags = packet->tags;
    note->interface = packet->interface;
    note->port_flags = packet->port_flags;
}

static __always_inline bool read_noted(const struct xdp_md *ctx, const struct scratch *note,
                                       struct packet *packet) {
    packet->end = (void *)(long)ctx->data_end;
    packet->l3 = (void *)(long)ctx->data + (note->l3 & 0x1f);
    packet->tags = note->tags;
    packet->interface = note->interface;
    packet->port_flags = note->port_flags;
    if (packet->l3 + sizeof(struct iphdr) > packet->end)
        return false;
    if (load8(packet->l3) >> 4 == 4) {
        packet->ether_type = swap16(ETH_P_IP);
        read_ipv4(packet, packet->l3);
    } else {
        if (packet->l3 + sizeof(struct ipv6hdr) > packet->end)
            return false;
        packet->ether_type = swap16(ETH_P_IPV6);
        read_ipv6(packet, packet->l3);
    }
    packet->protocol = (__u8)note->protocol;
    packet->fragment_id = note->fragment_id;
    packet->l4 = packet->l3 + (note->l4 & 0x7ff);
    packet->left = packet->length - note->l4;
    return true;
}

#endif
