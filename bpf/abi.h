/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The structs that the programs share with user space; plan/xdp/abi.py mirrors them, and
 * tests/unit/plan/xdp/test_abi.py holds both against the object's BTF.
 *
 * A change of the configuration is one step because listeners and replies hold two versions of what they say:
 * the version in force is config.active, and user space writes the other one, then config.active.
 * Addresses and ports are in network order; IPv4 addresses are mapped into IPv6 (::ffff:a.b.c.d).
 */
#ifndef POINTSMAN_ABI_H
#define POINTSMAN_ABI_H

#include <linux/types.h>

#include "abi_filter.h"
#include "abi_full_nat.h"
#include "verdicts.h"

#define ABI_VERSION 2
#define PORTS 256 /* slots for interfaces */
#define STAMP_BYTES 32
#define EVENT_BYTES 96

struct counter {
    __u64 packets;
    __u64 bytes;
};

/* What all packets depend on: the only element of `settings`. */
struct config {
    __u32 active;              /* 0 or 1: the version of listeners and replies in force */
    __u32 dirty;               /* a change is under way: versions may differ where they should not */
    __u32 hot_stride;          /* elements of `hot` for each CPU */
    __u32 listener_stride;     /* elements of `listener_counts` for each CPU */
    __u32 port_multiplier;     /* an interface's slot in `ports` is (ifindex * this) >> 24 */
    __u32 next_hop_age;        /* how long a next hop is believed, in jiffies */
    __u32 confirm_age;         /* how often the kernel is given a packet for it, likewise */
    __u32 next_hop_generation; /* user space adds 1 to have every next hop looked up again */
    __u32 destinations_mask;   /* elements of `destinations` for each CPU, less one */
    __u32 origins_mask;        /* elements of `origins`, less one */
    __u32 sample;              /* one event in so many packets, 0: none */
    __u32 icmp_rate;           /* ICMP errors of our own each second, for each CPU */
    __u32 flags;
    __u32
        shared_buckets; /* of `flows`, from the first on: those that are no one listener's; for user space */
    __u8 stamp[2][STAMP_BYTES]; /* by version */
};

#define CONFIG_COUNT_FLOWS 2 /* a scheduler wants to know how many flows nodes have */
#define CONFIG_ASK_ALWAYS 1  /* routing rules look at more than the destination: no next hop is remembered */

/*
 * Whether an address may be a listener's, or a node's: bits by the address's hash, of which there are as many
 * again as here. It saves most packets a look-up that finds nothing. Bits may be set that need not be.
 */
#define FILTER_LISTENER_BITS 12
#define FILTER_NODE_BITS 16
#define FILTER_WORDS ((1 << FILTER_LISTENER_BITS) / 64 + (1 << FILTER_NODE_BITS) / 64)

struct endpoint_key {
    __be32 address[4];
    __be16 port;
    __u8 protocol;
    __u8 zero;
};

/* Where flows of a listener are remembered. */
struct flow_table {
    __u64 salt;
    __u32 base;  /* first bucket */
    __u32 pairs; /* of buckets */
    __u32 ways;  /* of each bucket, 1..8 */
    __u32 flow_ticks;
    __u32 handshake_ticks;
    __u32 hash_seed; /* of clients, for the memory and the scheduler */
};

enum protocol {
    PROTOCOL_DTLS = 1,
    PROTOCOL_UDP = 2,
    PROTOCOL_TCP = 3,
};

#define LISTENER_VALID 1
#define LISTENER_BY_CID 2
#define LISTENER_UNKNOWN_BALANCED 4
#define LISTENER_DOWN_BALANCED 8

struct listener {
    struct flow_table flows;
    __u32 nodes;      /* first element of `nodes` */
    __u32 slots;      /* first word of the Maglev table in `words`, four slots a word */
    __u32 slot_count; /* 0: no node takes new flows */
    __u32 ids;        /* first word of the ids' table */
    __u32 id_bits;    /* log2 of its words */
    __u32 labels;     /* first word of the labels' table */
    __u32 label_bits;
    __u32 counts; /* element of `listener_counts` */
    __u32 id_mask;
    __u16 id_start; /* in bytes from the start of the payload */
    __u8 id_span;
    __u8 id_shift;
    __u8 protocol;
    __u8 flags;
    __u16 zero;
    __u32 node_count;
    __u32 filter;         /* element of `filter_rules`, 0: none */
    __u32 affinity_ticks; /* 0: none */
    __u32 turn;           /* round robin: element of `turns` */
    __u8 affinity4;       /* bits of a client's address that count for it */
    __u8 affinity6;
    __u8 scheduler; /* enum scheduler */
    __u8 forward;   /* enum forward */
    __u32 sources;  /* full-nat: first word of the source addresses, two words each */
    __u16 source_count;
    __u16 source_port; /* the first one, host order */
    __u32 source_ports;
    __u32 zero2;
};

enum scheduler {
    SCHEDULER_MAGLEV = 0,
    SCHEDULER_RANDOM,
    SCHEDULER_ROUND_ROBIN,
    SCHEDULER_LEAST_CONNECTIONS,
};

enum forward {
    FORWARD_NAT = 0,
    FORWARD_FULL_NAT,
    FORWARD_DSR,
    FORWARD_TUNNEL,
};

struct listener_versions {
    struct listener version[2];
};

#define NODE_TAKES_NEW 1
#define NODE_TAKES_NAMED 2
#define NODE_LEAVING 4
#define NODE_SCHEDULED 8 /* the scheduler may pick it */

struct node {
    __be32 address[4];
    __be16 port;
    __u16 label;
    __u16 flags;
    __u16 weight;
    __u32 hot;       /* element of `hot` */
    __u32 l4_delta;  /* from the listener's address and port to the node's, but for UDP checksum 0 */
    __u32 l3_delta;  /* from the listener's address to the node's, IPv4 */
    __u32 budget;    /* element of `budgets`, where the listener has a filter */
    __u64 until;     /* leaving: coarse monotonic ns; 0: for ever */
    __be32 outer[4]; /* the source of the header that is put before packets */
};

/* How nodes that answer by themselves are sent packets, in the place of their l4_delta. */
#define OUTER_PORT(node) ((__be16)(node)->l4_delta)
#define OUTER_KIND(node) ((__u8)((node)->l4_delta >> 16)) /* enum encapsulation */
#define OUTER_CLAMPS(node) ((node)->l4_delta >> 24)       /* the segment size in SYNs is lowered */

enum encapsulation {
    ENCAPSULATION_NONE = 0,
    ENCAPSULATION_IPIP,
    ENCAPSULATION_GUE,
};

#define REPLY_VALID 1
#define REPLY_BY_CID 2

struct reply {
    struct flow_table flows;
    __be32 address[4]; /* the listener's */
    __be16 port;
    __u16 label;
    __u8 protocol;
    __u8 flags;
    __u16 filter; /* element of `filter_rules` where answers are limited, 0: they are not */
    __u32 hot;
    __u32 counts;
    __u32 l4_delta; /* from the node's address and port to the listener's */
    __u32 l3_delta;
    __u64 until;
};

struct reply_versions {
    struct reply version[2];
};

/* How the next packet leaves; believed for config.next_hop_age. */
struct next_hop {
    __u32 interface; /* 0: unknown */
    __u32 born;      /* in jiffies */
    __u32 generation;
    __u32 ingress;
    __u8 destination[6];
    __u8 source[6];
    __u16 mtu;
    __u16 vlan;      /* tag to push, 0: none */
    __u32 confirmed; /* when the kernel was last given a packet for it, in jiffies */
};

/* What is written for a node's packets, by CPU. */
struct hot {
    struct counter count[NODE_VERDICTS];
    struct next_hop hop;
    __u32 zeros[7];
};

struct listener_counts {
    struct counter count[LISTENER_VERDICTS];
};

struct gateway_counts {
    struct counter count[GATEWAY_VERDICTS];
};

/* The next hop to a client, by CPU and hash. */
struct destination {
    __be32 address[4];
    __u32 hot; /* of the node that sent, since rules may route by source */
    __u32 zero;
    struct next_hop hop;
    __u32 zero2;
};

#define PORT_NATIVE 1 /* has a program in native mode, so that others may redirect to it */
#define PORT_GENERIC 2
#define PORT_SLOW_TX 4  /* a veth, where what is sent back by XDP_TX waits for the next frame */
#define PORT_CLIENTS 16 /* no node is there, so that nothing from there is a node's */
#define PORT_NO_META 8  /* its driver carries no metadata: the programs found out, and wrote it here */

/* An interface that the gateway's packets use. */
struct port {
    __u32 interface;
    __u32 lower; /* the interface that frames really leave by */
    __u16 vlan;  /* and the tag they carry there */
    __u8 mac[6];
    __u32 flags;
    __u32 zero;
};

/* VLANs by what carries them. */
struct vlan_key {
    __u32 lower;
    __u32 vlan;
};

struct fragment_key {
    __be32 source[4];
    __be32 destination[4];
    __u32 id;
    __u32 protocol;
};

#define FRAGMENT_PASSED_BY 2

/* What became of a datagram's first fragment. */
struct fragment {
    __be32 address[4]; /* that takes the destination's place, or the source's for a reply */
    __u32 l3_delta;    /* where it is passed by as it is: the element of `nodes` */
    __u32 hot;
    __u64 until; /* coarse monotonic ns */
    __u32 reply; /* 1: the source is rewritten; FRAGMENT_PASSED_BY */
    __u32 counts;
    __be32 source[4]; /* full-nat: takes the source's place, as `address` the destination's */
    __u32 both;       /* 1: both are rewritten */
    __u32 zero;
};

struct event {
    __u64 time;
    __u32 verdict;
    __u32 subject; /* `hot` or `listener_counts` element */
    __u32 interface;
    __u32 length; /* of the frame */
    __u8 bytes[EVENT_BYTES];
};

#endif
