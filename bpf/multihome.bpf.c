// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A UDP server that is bound to every address answers from the one that it was asked at: what arrives for its
 * control group is remembered by peer, and what it sends without a source of its own is given that address.
 * No packet is changed, and none is ever refused.
 */
#include "multihome.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GO_ON 1
#define EXTENSIONS 4 /* IPv6 extension headers that are walked at most */
#define MAPPED bpf_htonl(0xffff)
#define SOL_SOCKET 1
#define SO_BINDTODEVICE 25
#define SOCK_DGRAM 2
#define TO_US 0 /* PACKET_HOST: neither broadcast nor multicast */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, PORT_WORDS);
    __type(key, __u32);
    __type(value, __u64);
} ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MULTIHOME_UPLINKS);
    __type(key, __u32);
    __type(value, struct uplink);
} uplinks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, MULTIHOME_PEERS);
    __type(key, struct peer);
    __type(value, struct asked);
} peers SEC(".maps");

static __always_inline bool is_server_port(__u16 port) {
    __u32 word = port >> 6;
    __u64 *bits = bpf_map_lookup_elem(&ports, &word);

    return bits && *bits >> (port & 63) & 1;
}

static __always_inline void remember(const struct peer *peer, const struct asked *asked) {
    const struct asked *known = bpf_map_lookup_elem(&peers, peer);

    /* A write for every packet would make the CPUs wait for each other. */
    if (known && !((known->address[0] ^ asked->address[0]) | (known->address[1] ^ asked->address[1]) |
                   (known->address[2] ^ asked->address[2]) | (known->address[3] ^ asked->address[3]) |
                   (known->interface ^ asked->interface)))
        return;
    bpf_map_update_elem(&peers, peer, asked, BPF_ANY);
}

/* The offset of the UDP header behind IPv6 extension headers, 0 where there is none. */
static __always_inline __u32 behind_extensions(struct __sk_buff *skb, __u8 next) {
    __u32 at = sizeof(struct ipv6hdr);

#pragma unroll
    for (int each = 0; each < EXTENSIONS; each++) {
        __u8 header[2];

        if (next == IPPROTO_UDP)
            return at;
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
            return 0;
        if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
            return 0;
        next = header[0];
        at += 8 * (header[1] + 1);
    }
    return next == IPPROTO_UDP ? at : 0;
}

SEC("cgroup_skb/ingress")
int multihome_arrive(struct __sk_buff *skb) {
    struct asked asked = {.interface = skb->ifindex};
    struct peer peer = {};
    __be16 udp[2];
    __u32 at;

    if (skb->pkt_type != TO_US)
        return GO_ON;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr ip;

        if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
            return GO_ON;
        peer.address[2] = asked.address[2] = MAPPED;
        peer.address[3] = ip.saddr;
        asked.address[3] = ip.daddr;
        at = ip.ihl * 4;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr ip;

        if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
            return GO_ON;
        __builtin_memcpy(peer.address, &ip.saddr, 16);
        __builtin_memcpy(asked.address, &ip.daddr, 16);
        at = behind_extensions(skb, ip.nexthdr);
    } else {
        return GO_ON;
    }
    if (!at || bpf_skb_load_bytes(skb, at, udp, sizeof(udp)))
        return GO_ON;
    peer.port = udp[0];
    peer.local_port = bpf_ntohs(udp[1]);
    if (is_server_port(peer.local_port))
        remember(&peer, &asked);
    return GO_ON;
}

/* What the peer asked at, NULL where it is not known or not the server's port. */
static __always_inline const struct asked *asked_by(struct peer *peer, const struct bpf_sock_addr *ctx,
                                                    __u32 local_port) {
    peer->port = (__be16)ctx->user_port;
    peer->local_port = (__u16)local_port;
    return is_server_port(peer->local_port) ? bpf_map_lookup_elem(&peers, peer) : NULL;
}

SEC("cgroup/sendmsg4")
int multihome_send4(struct bpf_sock_addr *ctx) {
    struct peer peer = {.address = {0, 0, MAPPED, ctx->user_ip4}};
    const struct asked *asked;
    struct bpf_sock *socket = ctx->sk;

    /* A source is there: the socket is bound to it, or the server named it (IP_PKTINFO). */
    if (!socket || ctx->msg_src_ip4)
        return GO_ON;
    asked = asked_by(&peer, ctx, socket->src_port);
    if (asked)
        ctx->msg_src_ip4 = asked->address[3];
    return GO_ON;
}

SEC("cgroup/sendmsg6")
int multihome_send6(struct bpf_sock_addr *ctx) {
    struct peer peer = {.address = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
    const struct asked *asked;
    struct bpf_sock *socket = ctx->sk;

    if (!socket || ctx->msg_src_ip6[0] | ctx->msg_src_ip6[1] | ctx->msg_src_ip6[2] | ctx->msg_src_ip6[3])
        return GO_ON;
    asked = asked_by(&peer, ctx, socket->src_port);
    if (asked) {
        ctx->msg_src_ip6[0] = asked->address[0];
        ctx->msg_src_ip6[1] = asked->address[1];
        ctx->msg_src_ip6[2] = asked->address[2];
        ctx->msg_src_ip6[3] = asked->address[3];
    }
    return GO_ON;
}

/*
 * A connected socket is given its source when it connects, by the route, and no program sees what it sends.
 * So it is bound to the uplink that the peer asked by, and routes by it; disconnecting undoes that.
 */
static __always_inline void bind_to_uplink(struct bpf_sock_addr *ctx, struct peer *peer,
                                           const struct bpf_sock *socket) {
    const struct asked *asked;
    struct uplink *uplink, name;
    __u32 interface;

    if (ctx->type != SOCK_DGRAM || ctx->protocol != IPPROTO_UDP || socket->bound_dev_if)
        return;
    asked = asked_by(peer, ctx, socket->src_port);
    if (!asked)
        return;
    interface = asked->interface;
    uplink = bpf_map_lookup_elem(&uplinks, &interface);
    if (!uplink)
        return;
    name = *uplink;
    bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, name.name, sizeof(name.name));
}

SEC("cgroup/connect4")
int multihome_connect4(struct bpf_sock_addr *ctx) {
    struct peer peer = {.address = {0, 0, MAPPED, ctx->user_ip4}};
    struct bpf_sock *socket = ctx->sk;

    if (socket && !socket->src_ip4)
        bind_to_uplink(ctx, &peer, socket);
    return GO_ON;
}

SEC("cgroup/connect6")
int multihome_connect6(struct bpf_sock_addr *ctx) {
    struct peer peer = {.address = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
    struct bpf_sock *socket = ctx->sk;

    if (socket && !(socket->src_ip6[0] | socket->src_ip6[1] | socket->src_ip6[2] | socket->src_ip6[3]))
        bind_to_uplink(ctx, &peer, socket);
    return GO_ON;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
