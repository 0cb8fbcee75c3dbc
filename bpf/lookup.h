/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose an address and port are, in the version of the configuration that is in force. */
#ifndef POINTSMAN_LOOKUP_H
#define POINTSMAN_LOOKUP_H

#include "lib/jhash.h"
#include "maps.h"

static __always_inline __u32 filter_hash(const __be32 address[4]) {
    __u32 mixed = address[3] ^ rotate(address[2], 7) ^ rotate(address[1], 13) ^ rotate(address[0], 19);

    return mixed * 0x9e3779b1u;
}

static __always_inline bool may_be(const __be32 address[4], __u32 base, __u32 bits) {
    __u32 bit = filter_hash(address) >> (32 - bits);
    __u64 *word = AT(filters, base + bit / 64);

    return word && *word >> bit % 64 & 1;
}

static __always_inline bool may_be_listener(const __be32 address[4]) {
    return may_be(address, 0, FILTER_LISTENER_BITS);
}

/* As a source it is forged: two servers that answer everything could be set on each other with it. */
static __always_inline bool is_listener_address(const __be32 address[4]) {
    struct endpoint_key key = {};

    if (likely(!may_be_listener(address)))
        return false;
    __builtin_memcpy(key.address, address, 16);
    return bpf_map_lookup_elem(&listeners, &key);
}

static __always_inline bool may_be_node(const __be32 address[4]) {
    return may_be(address, (1 << FILTER_LISTENER_BITS) / 64, FILTER_NODE_BITS);
}

static __always_inline const struct listener *
listener_at(const struct config *config, const __be32 address[4], __be16 port, __u8 protocol) {
    struct endpoint_key key = {.port = port, .protocol = protocol};
    struct listener_versions *found;
    struct listener *listener;

    __builtin_memcpy(key.address, address, 16);
    found = bpf_map_lookup_elem(&listeners, &key);
    if (!found)
        return NULL;
    listener = &found->version[config->active & 1];
    return listener->flags & LISTENER_VALID ? listener : NULL;
}

static __always_inline const struct reply *reply_at(const struct config *config, const __be32 address[4],
                                                    __be16 port, __u8 protocol, __u64 clock) {
    struct endpoint_key key = {.port = port, .protocol = protocol};
    struct reply_versions *found;
    struct reply *reply;

    __builtin_memcpy(key.address, address, 16);
    found = bpf_map_lookup_elem(&replies, &key);
    if (!found)
        return NULL;
    reply = &found->version[config->active & 1];
    if (!(reply->flags & REPLY_VALID) || (reply->until && clock >= reply->until))
        return NULL;
    return reply;
}

#endif
