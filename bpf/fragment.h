/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The memory of where a datagram's first fragment went. */
#ifndef POINTSMAN_FRAGMENT_H
#define POINTSMAN_FRAGMENT_H

#include "maps.h"
#include "packet.h"

#define FRAGMENT_SECONDS 10

static __always_inline void fragment_key(const struct packet *packet, struct fragment_key *key) {
    __builtin_memcpy(key->source, packet->source, 16);
    __builtin_memcpy(key->destination, packet->destination, 16);
    key->id = packet->fragment_id;
    /* For IPv6, later fragments may name a header that the first one went on from. */
    key->protocol = packet->family == 4 ? packet->protocol : 0;
}

/*
 * Have the later fragments of a datagram follow the first; without an address they are the kernel's. The
 * entry is made in the scratch, as a program's stack has no room for it.
 */
static __always_inline void note_fragment(const struct packet *packet, const __be32 *address, __u32 l3_delta,
                                          __u32 hot_index, __u32 counts, __u64 clock) {
    struct scratch *note = AT(scratch, 0);
    struct fragment *fragment;

    if (!note)
        return;
    fragment = &note->fragment;
    __builtin_memset(fragment, 0, sizeof(*fragment));
    fragment->l3_delta = l3_delta;
    fragment->hot = hot_index;
    fragment->until = clock + FRAGMENT_SECONDS * 1000000000ull;
    fragment->reply = packet->reply;
    fragment->counts = counts;
    if (address)
        __builtin_memcpy(fragment->address, address, 16);
    fragment_key(packet, &note->fragment_key);
    bpf_map_update_elem(&fragments, &note->fragment_key, fragment, address ? BPF_ANY : BPF_NOEXIST);
}

#endif
