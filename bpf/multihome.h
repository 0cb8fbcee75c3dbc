/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs of multihomed servers share with user space: plan/multihome_abi.py mirrors it. */
#ifndef POINTSMAN_MULTIHOME_H
#define POINTSMAN_MULTIHOME_H

#include <linux/types.h>

#define PORT_WORDS 1024 /* a bit for each of 65,536 ports, in words of 64 bits */
#define MULTIHOME_UPLINKS 128
#define MULTIHOME_PEERS 65536

/* Who asked, at which of the server's ports; an IPv4 address as it is mapped into IPv6. */
struct peer {
    __be32 address[4];
    __be16 port;
    __u16 local_port; /* in the host's byte order */
};

/* What the peer asked at. */
struct asked {
    __be32 address[4];
    __u32 interface;
};

struct uplink {
    char name[16];
};

_Static_assert(sizeof(struct peer) == 20, "a key without padding");
_Static_assert(sizeof(struct asked) == 20, "a value without padding");

#endif
