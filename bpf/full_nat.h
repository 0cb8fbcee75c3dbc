/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * full-nat: which port of which source address a client's packets leave from, and whose the answers are
 * (docs/adr/0026-full-nat-on-xdp.md).
 *
 * A node endpoint has a block of `translations` for each source address, an element for each port.
 * `translated` leads from a client at a listener to its element; it is a short cut only: the element says
 * whose it is.
 */
#ifndef POINTSMAN_FULL_NAT_H
#define POINTSMAN_FULL_NAT_H

#include "lib/translation.h"
#include "request.h"

#define MOST_SOURCES 8
#define PORT_TRIES 128 /* for each packet and source: elements that are looked at in search of a free one */

static __always_inline bool is_of(const struct translation *element, const struct client_key *key) {
    return same_address(element->client, key->client) && same_address(element->listener, key->listener) &&
           element->client_port == key->client_port && element->listener_port == key->listener_port;
}

/* Have others take the port no earlier than `ticks` from now; false where it is no more this translation's.
 */
static __always_inline bool keep_port(struct translation *element, __u32 now, __u32 ticks, __u32 ended,
                                      bool opens) {
    __u64 state = element->state;
    __u64 heard = translation_heard(state, now, ticks, ended, opens);

    if (!(state & TRANSLATION_LIVE))
        return false;
    return heard == state || __sync_val_compare_and_swap(&element->state, state, heard) == state;
}

/* Forget whose the port was: the client's short cut must not lead here any more. */
static __always_inline void forget(struct passage *passage, const struct translation *element, __u32 index) {
    struct client_key *former = &passage->former;
    struct shortcut *known;

    __builtin_memcpy(former->client, element->client, 16);
    __builtin_memcpy(former->listener, element->listener, 16);
    former->client_port = element->client_port;
    former->listener_port = element->listener_port;
    former->protocol = passage->key.protocol;
    known = bpf_map_lookup_elem(&translated, former);
    if (known && known->element == index)
        bpf_map_delete_elem(&translated, former);
}

/* Take a free port of one of the listener's sources for passage.key: 1, or 0 where there is none. */
__noinline int take_port(const struct listener *listener, __u32 source) {
    struct scratch *note = AT(scratch, 0);
    struct translation *element = NULL;
    struct passage *passage;
    struct block *block;
    __u32 now, index = 0, offset = 0, base, ticks;
    __u64 state = 0, claimed = 0, *first, *second;

    if (!listener || !note)
        return 0;
    passage = &note->passage;
    first = AT(words, listener->sources + 2 * source);
    second = AT(words, listener->sources + 2 * source + 1);
    if (!first || !second)
        return 0;
    __builtin_memcpy(passage->block.source, first, 8);
    __builtin_memcpy(&passage->block.source[2], second, 8);
    block = bpf_map_lookup_elem(&blocks, &passage->block);
    if (!block || !listener->source_ports)
        return 0;
    now = flow_ticks(passage->clock);
    ticks = listener->flows.flow_ticks;
    base = listener->source_port - block->port;
    for (__u32 tries = 0; tries < PORT_TRIES; tries++) {
        __u32 hand;

        if (tries >= listener->source_ports)
            return 0;
        hand = __sync_fetch_and_add(&block->hand, 1);
        offset = base + hand % listener->source_ports;
        if (offset >= block->ports)
            return 0;
        index = block->first + offset;
        element = AT(translations, index);
        if (!element)
            return 0;
        state = element->state;
        if (!translation_is_free(state, now))
            continue;
        claimed = translation_claimed(state, now);
        if (__sync_val_compare_and_swap(&element->state, state, claimed) == state)
            goto taken;
    }
    return 0;
taken:
    if (state)
        forget(passage, element, index);
    __builtin_memcpy(element->client, passage->key.client, 16);
    __builtin_memcpy(element->listener, passage->key.listener, 16);
    element->client_port = passage->key.client_port;
    element->listener_port = passage->key.listener_port;
    element->label = passage->label;
    __builtin_memcpy(passage->known.source, passage->block.source, 16);
    passage->known.source_port = swap16((__u16)(block->port + offset));
    passage->known.node_port = passage->block.node_port;
    passage->known.label = passage->label;
    passage->known.element = index;
    state = bpf_map_update_elem(&translated, &passage->key, &passage->known, BPF_ANY)
                ? 0
                : translation_heard(claimed, now, ticks, passage->ended, true);
    __sync_val_compare_and_swap(&element->state, claimed, state);
    return !!state;
}

/* Find the translation of passage.key towards passage.block's node: 1, or 0 where there is none. */
__noinline int known_translation(const struct listener *listener) {
    struct scratch *note = AT(scratch, 0);
    struct translation *element;
    struct passage *passage;
    struct shortcut *known;
    __u32 now;

    if (!listener || !note)
        return 0;
    passage = &note->passage;
    now = flow_ticks(passage->clock);
    known = bpf_map_lookup_elem(&translated, &passage->key);
    if (!known)
        return 0;
    element = AT(translations, known->element);
    if (!element || !is_of(element, &passage->key))
        return 0;
    if (known->label == passage->label && known->node_port == passage->block.node_port &&
        keep_port(element, now, listener->flows.flow_ticks, passage->ended, passage->opens)) {
        passage->known = *known;
        return 1;
    }
    /* It went to another node, which may still answer. */
    keep_port(element, now, listener->flows.flow_ticks, TRANSLATION_ENDED, false);
    return 0;
}

/* The position of the node that a connection is on of which the memory of flows knows nothing; NOWHERE: of
 * none. */
__noinline int position_by_translation(const struct listener *listener) {
    struct scratch *note = AT(scratch, 0);
    struct translation *element;
    __u64 clock = bpf_ktime_get_coarse_ns();
    struct shortcut *known;
    struct node *node;
    __u32 position;

    if (!listener || !note)
        return -1;
    known = bpf_map_lookup_elem(&translated, &note->passage.key);
    if (!known)
        return -1;
    element = AT(translations, known->element);
    if (!element || !is_of(element, &note->passage.key) ||
        !translation_is_live(element->state, flow_ticks(clock)))
        return -1;
    position = find_word(listener->labels, listener->label_bits, known->label);
    node = node_at(listener, position);
    if (!node || !(node->flags & NODE_TAKES_NAMED) || (node->until && clock >= node->until))
        return -1;
    return (int)position;
}

/* Find or make the translation of passage.key towards passage.block's node; false where no port is left. */
static __always_inline bool translate(const struct listener *listener) {
    __u32 count = listener->source_count, start = bpf_get_prandom_u32();

    if (known_translation(listener))
        return true;
    for (__u32 source = 0; source < MOST_SOURCES; source++) {
        if (source >= count)
            break;
        if (take_port(listener, (start % count + source) % count))
            return true;
    }
    return false;
}

/*
 * Whose a packet is that came to `port` (host order) of passage.block's source from its node: fills in
 * passage.key, .label and .known.element; 0: nobody's.
 */
__noinline int translate_back(__u32 port) {
    struct scratch *note = AT(scratch, 0);
    struct translation *element;
    struct passage *passage;
    struct block *block;
    __u64 state;

    if (!note)
        return 0;
    passage = &note->passage;
    block = bpf_map_lookup_elem(&blocks, &passage->block);
    if (!block || port - block->port >= block->ports)
        return 0;
    passage->known.element = block->first + port - block->port;
    element = AT(translations, passage->known.element);
    if (!element)
        return 0;
    state = element->state;
    if (!translation_is_live(state, flow_ticks(passage->clock)))
        return 0;
    __builtin_memcpy(passage->key.client, element->client, 16);
    __builtin_memcpy(passage->key.listener, element->listener, 16);
    passage->key.client_port = element->client_port;
    passage->key.listener_port = element->listener_port;
    passage->key.protocol = passage->block.protocol;
    passage->label = element->label;
    /* Another CPU may have taken the port meanwhile, once its time was over. */
    return translation_is_same(element->state, state);
}

#endif
