/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the generator and the sink agree on: the frame, the flows, and the structs shared with Python. */
#ifndef POINTSMAN_BENCH_RIG_H
#define POINTSMAN_BENCH_RIG_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PAYLOAD_WORDS 20 /* 80 bytes: a CoAP request of some 40 bytes in a tls12_cid record */
#define PAYLOAD_LEN (PAYLOAD_WORDS * 4)
#define HEAD_WORDS 4 /* the record header and the CID's first 5 bytes: rewritten for each frame */

#define TCP_ISN 0x1000  /* a node's first sequence number */
#define FLOW_GROUP 64   /* flows to a map element: an array's element takes 8 bytes at least */
#define FLOWS (1 << 22) /* of so many the sink can tell which node has them */

enum kind {
    KIND_CID = 0,   /* tls12_cid records, each naming its node */
    KIND_UDP = 1,   /* datagrams that name nothing: a flow shall stay on its node */
    KIND_TCP = 2,   /* likewise, in segments */
    KIND_HELLO = 3, /* ClientHellos: the same one from every address */
};

enum pattern {
    PATTERN_ESTABLISHED = 0, /* a fixed set of clients, each always with the same CID */
    PATTERN_NEW = 1,         /* no client address and port comes twice */
    PATTERN_REUSED = 2,      /* a NAT hands the same addresses and ports to another device each time round */
};

/* One cell's traffic. Mirrors bench.traffic.Traffic. Addresses are in network order, IPv4 in the first word.
 */
struct traffic {
    __u32 vip[4];
    __u32 node_base[4];     /* node n is the base with n in its last byte */
    __u32 client_base[4];   /* the client's number goes into its last 22 bits */
    __u32 head[HEAD_WORDS]; /* the payload's first words with a node id of 0 and a device number of 0 */
    __u32 payload_sum;      /* folded sum of the whole payload template, likewise */
    __u32 flows;
    __u32 nodes;
    __u8 dst_mac[6];
    __u8 src_mac[6];
    __be16 vip_port;
    __be16 node_port;
    __u8 family; /* 4 or 6 */
    __u8 pattern;
    __u8 reply;  /* node to client instead of client to VIP */
    __u8 direct; /* no balancer: clients speak to the node itself, and see it answer */
    __u8 kind;
    __u8 syn;   /* TCP: the first segment of each flow, without payload */
    __u8 learn; /* the sink notes which node has which flow, and judges nothing */
    __u8 spare;
};
_Static_assert(sizeof(struct traffic) == 100, "bench.traffic.Traffic mirrors struct traffic");

/* What a sink saw. Mirrors bench.traffic.Counts. */
struct counts {
    __u64 packets;   /* ours, whatever else is wrong with them */
    __u64 misrouted; /* at a node that the CID does not name; or from an address that is not the VIP's */
    __u64 sampled;   /* of these the checksums were computed */
    __u64 bad;       /* of these one was wrong */
    __u64 moved;     /* of these at another node than its flow's first packet */
    __u64 foreign;   /* not ours: neighbour discovery and the like */
};

struct head4 {
    struct ethhdr eth;
    struct iphdr ip;
} __attribute__((packed));

struct head6 {
    struct ethhdr eth;
    struct ipv6hdr ip;
} __attribute__((packed));

struct datagram {
    struct udphdr udp;
    __u32 payload[PAYLOAD_WORDS];
} __attribute__((packed));

struct segment {
    struct tcphdr tcp;
    __u32 payload[PAYLOAD_WORDS]; /* not behind a SYN */
} __attribute__((packed));

/* The nodes of the flows, as the sink met them; 0: not met. */
struct flow_group {
    __u8 node[FLOW_GROUP];
};

#define flow_nodes_map                                                                                       \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_ARRAY);                                                                    \
        __uint(map_flags, BPF_F_MMAPABLE);                                                                   \
        __uint(max_entries, FLOWS / FLOW_GROUP);                                                             \
        __type(key, __u32);                                                                                  \
        __type(value, struct flow_group);                                                                    \
    } flow_nodes SEC(".maps")

/* Fold a sum of 32-bit words into the Internet checksum. One's complement sums do not care about byte order.
 */
static __always_inline __u16 checksum(__u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~((sum & 0xffff) + (sum >> 16));
}

/* Bytes from the transport header to the end. */
static __always_inline __u32 l4_len(const struct traffic *t) {
    if (t->kind != KIND_TCP)
        return sizeof(struct datagram);
    return t->syn ? sizeof(struct tcphdr) : sizeof(struct segment);
}

#define traffic_map                                                                                          \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_ARRAY);                                                                    \
        __uint(max_entries, 1);                                                                              \
        __type(key, __u32);                                                                                  \
        __type(value, struct traffic);                                                                       \
    } traffic SEC(".maps")

#endif
