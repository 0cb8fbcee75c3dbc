/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The structs of full-nat that the programs share with user space: a part of abi.h. */
#ifndef POINTSMAN_ABI_FULL_NAT_H
#define POINTSMAN_ABI_FULL_NAT_H

#include <linux/types.h>

/* full-nat: the ports of a source address towards one node endpoint. */
struct block_key {
    __be32 source[4];
    __be32 node[4];
    __be16 node_port;
    __u8 protocol;
    __u8 zero;
};

struct block {
    __u32 first; /* element of `translations` */
    __u32 ports;
    __u32 port; /* the first element's, host order */
    __u32 hand; /* where a free port is looked for next */
};

/* Whose a port is; lib/translation.h has the state. */
struct translation {
    __u64 state;
    __be32 client[4];
    __be32 listener[4];
    __be16 client_port;
    __be16 listener_port;
    __u16 label;
    __u16 zero;
};

struct client_key {
    __be32 client[4];
    __be32 listener[4];
    __be16 client_port;
    __be16 listener_port;
    __u8 protocol;
    __u8 zero[3];
};

/* Where a client's translation is. */
struct shortcut {
    __be32 source[4];
    __be16 source_port;
    __be16 node_port;
    __u16 label;
    __u16 zero;
    __u32 element;
};

#endif
