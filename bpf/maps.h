/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, shared by all programs. Those with max_entries 1 are given their size by user space before the
 * object is loaded. The arrays that are mapped into user space are plain arrays also where every CPU has its
 * own part: their look-up is inlined, and user space reads them without a system call.
 */
#ifndef POINTSMAN_MAPS_H
#define POINTSMAN_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/bytes.h"
#include "lib/flow.h"

#define ARRAY_OF(value_type, name)                                                                           \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_ARRAY);                                                                    \
        __uint(max_entries, 1);                                                                              \
        __uint(map_flags, BPF_F_MMAPABLE);                                                                   \
        __type(key, __u32);                                                                                  \
        __type(value, value_type);                                                                           \
    } name SEC(".maps")

struct bucket {
    __u64 way[FLOW_WAYS];
};

ARRAY_OF(struct config, settings);
ARRAY_OF(struct node, nodes);
ARRAY_OF(struct hot, hot);
ARRAY_OF(struct listener_counts, listener_counts);
ARRAY_OF(struct gateway_counts, gateway_counts); /* one for each CPU */
ARRAY_OF(__u64, words);                          /* Maglev tables, and tables of ids and labels */
ARRAY_OF(__u64, turns); /* how often round robin has chosen, by listener as in `listener_counts` */
ARRAY_OF(struct bucket, flows);
ARRAY_OF(__s64, connections); /* flows of a node, by label; kept where CONFIG_COUNT_FLOWS says so */
ARRAY_OF(struct destination, destinations);
ARRAY_OF(struct translation, translations);
ARRAY_OF(__u64, origins); /* who lately answered clients that no flow is kept for: flow entries */

ARRAY_OF(struct filter_rule, filter_rules);
ARRAY_OF(struct buckets, budgets);
ARRAY_OF(__u64, source_ports);
ARRAY_OF(__u64, guard_ports);

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, FILTER_WORDS);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, __u64);
} filters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, PORTS);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct port);
} ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct endpoint_key);
    __type(value, struct listener_versions);
} listeners SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct endpoint_key);
    __type(value, struct reply_versions);
} replies SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct block_key);
    __type(value, struct block);
} blocks SEC(".maps");

/* Takes memory for what it holds only: there may be millions of ports, of which few are in use. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct client_key);
    __type(value, struct shortcut);
} translated SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, struct vlan_key);
    __type(value, __u32);
} vlans SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct fragment_key);
    __type(value, struct fragment);
} fragments SEC(".maps");

#define LRU_OF(key_type, value_type, name)                                                                   \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                 \
        __uint(max_entries, 1);                                                                              \
        __type(key, key_type);                                                                               \
        __type(value, value_type);                                                                           \
    } name SEC(".maps")

LRU_OF(struct prefix_key, struct buckets, prefix_budgets);
LRU_OF(struct peer_key, struct peer, peers);

/* Nothing is allocated ahead. */
#define TRIE_OF(key_type, name)                                                                              \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);                                                                 \
        __uint(max_entries, 1 << 21);                                                                        \
        __uint(map_flags, BPF_F_NO_PREALLOC);                                                                \
        __type(key, key_type);                                                                               \
        __type(value, __u32);                                                                                \
    } name SEC(".maps")

TRIE_OF(struct prefix4_key, prefixes4);
TRIE_OF(struct prefix6_key, prefixes6);

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, PORTS);
    __type(key, __u32); /* the interface */
    __type(value, struct guarded);
} guarded SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
} events SEC(".maps");

enum tail {
    TAIL_ODD = 0, /* VLAN tags, IPv4 options, IPv6 extension headers, fragments */
    TAIL_NOTED,
    TAIL_ICMP,
    TAIL_ERROR,     /* answer with an ICMP error of our own */
    TAIL_BY_KERNEL, /* what the kernel has to send on */
    TAIL_FULL_NAT,  /* to a node */
    TAIL_FULL_NAT_BACK,
    TAIL_ERROR_TO_NODE, /* ICMP errors about packets of full-nat services */
    TAIL_ERROR_TO_CLIENT,
    TAIL_PASS_BY, /* to nodes that answer by themselves */
    TAIL_GUARD_ODD,
    TAILS,
};

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, TAILS);
    __type(key, __u32);
    __type(value, __u32);
} tails SEC(".maps");

/*
 * The question and the answer of the functions that are no part of the programs: the verifier follows those
 * once, and not for every way that leads to them.
 */
struct request {
    __be32 source[4];
    __u64 clock;
    struct hash client;
    __u32 traits;
    __u32 length;
    __u32 position;
    __u32 verdict;   /* of an event */
    __u32 preferred; /* position of the node that a new flow is for; NOWHERE: the scheduler picks */
    /* Bytes, as the programs' stacks are full. */
    __u8 use; /* enum node_verdict */
    __u8 family;
    __u8 renewed; /* the flow's entry was written to */
    __u8 class;   /* of the flow that was followed */
};

/* The question and the answer about a translation. */
struct passage {
    __u64 clock;
    struct client_key key;
    struct client_key former;
    struct block_key block;
    struct shortcut known;
    __u16 label;
    __u8 zero;
    __u8 opens;  /* TCP: a SYN */
    __u32 ended; /* marks of lib/translation.h */
};

/* What one program tells the next about the packet. */
struct scratch {
    __be32 source[4]; /* of an ICMP error of ours */
    __u32 l3;         /* offset in the frame */
    __u32 l4;         /* offset from there */
    __u32 part;       /* enum part */
    __u32 protocol;
    __u32 fragment_id;
    __u32 tags;
    __u32 port_flags;
    __u32 kind; /* enum error */
    __u32 mtu;
    __u32 reply; /* the packet goes to a client, or the kernel could not send it on by itself */
    __u32 interface;
    __be32 neighbour[4]; /* whom it goes to where that is not its destination */
    __u32 node;          /* element of `nodes` */
    __u32 counts;        /* of the listener */
    __u32 use;           /* enum node_verdict */
    __u32 entropy;       /* of the flow, for routers that spread them */
    __u64 tokens;        /* ICMP errors that may be sent, in 2^-20 */
    __u64 refilled;      /* coarse ns */
    __u32 swept;
    __u32 sweeping;  /* where, as a fraction of any table */
    __u64 sweep_due; /* since when sweep_more() has been even, coarse ns */
    __u32 sampled;
    struct passage passage;
    struct request request;
    struct bpf_fib_lookup fib;
    struct fragment fragment;
    struct fragment_key fragment_key;
    struct reply answer; /* what is known of a full-nat packet */
    struct event event;  /* of the sampled packet */
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct scratch);
} scratch SEC(".maps");

/* Look up an element of an array. */
#define AT(map, index)                                                                                       \
    ({                                                                                                       \
        __u32 at_index = (index);                                                                            \
        bpf_map_lookup_elem(&(map), &at_index);                                                              \
    })

#endif
