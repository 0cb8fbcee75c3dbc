/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The structs of filters and guards, as those of abi.h. */
#ifndef POINTSMAN_ABI_FILTER_H
#define POINTSMAN_ABI_FILTER_H

#include <linux/types.h>

#include "lib/bucket.h"

#define RULE_ENFORCE 1 /* else it only counts */
#define RULE_RECORDS 2
#define RULE_DTLS13 4
#define RULE_SOURCE_PORTS 8
#define RULE_PREFIXES4 16 /* there are entries in `prefixes4` */
#define RULE_PREFIXES6 32

/* What a filter lets pass. */
struct filter_rule {
    __u32 flags;
    __u32 counts;       /* a guard's: element of `listener_counts` */
    __u32 generation;   /* tells its buckets and peers from those of an older filter in its place */
    __u32 source_ports; /* first word of its bits in `source_ports` */
    __be32 mask6[4];    /* of sources that share a budget */
    __be32 mask4;
    __u32 total; /* element of `budgets` */
    __u32 amplification;
    __u32 cid_length; /* 0: unknown */
    struct budget hello_prefix;
    struct budget hello_total;
    struct budget hello_node;
    struct budget cid_prefix;
    struct budget cid_node;
};

/* Token buckets that packets of all CPUs take from (lib/bucket.h). */
struct buckets {
    __u64 hello;
    __u64 cid;
};

#define PREFIX_ALLOWED 1
#define PREFIX_DENIED 2

struct prefix4_key {
    __u32 bits; /* of what follows */
    __u32 filter;
    __be32 address;
};

struct prefix6_key {
    __u32 bits;
    __u32 filter;
    __be32 address[4];
};

/* The buckets of a source prefix, and what is known of a peer. */
struct prefix_key {
    __u32 filter;
    __u32 generation;
    __be32 address[4];
};

struct peer_key {
    __u32 filter;
    __u32 generation;
    __be32 address[4];
    __be16 port;
    __u16 zero;
};

#define PEER_PROVEN 1 /* it has shown that it receives what is sent to it */
#define PEER_SPOKE 2  /* it has sent something encrypted */

struct peer {
    __u64 cookie[2]; /* that it was sent last */
    __s64 credit;    /* bytes that it may still be sent */
    __u32 seen;      /* flow ticks */
    __u32 flags;
};

/* Which filter guards a port of an interface: by version, the first word in `guard_ports` plus 1, 0: none. */
struct guarded {
    __u32 ports[2];
};

#define GUARD_PORT_WORDS 16384 /* four ports a word, 16 bits each: element of `filter_rules`, 0: none */
#define SOURCE_PORT_WORDS 1024

#endif
