/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is read of a datagram's first DTLS record: RFC 6347 section 4.1 and 4.2.2, RFC 9146 section 4. */
#ifndef POINTSMAN_DTLS_H
#define POINTSMAN_DTLS_H

#include "bytes.h"

#define DTLS_CID_START 11 /* the connection ID follows type, version, epoch and sequence number */

static __always_inline bool dtls_has(const void *payload, const void *end, __u32 left, __u32 bytes) {
    return left >= bytes && (const __u8 *)payload + bytes <= (const __u8 *)end;
}

/*
 * `left` is what the IP header says there is of the payload: bytes up to `end` may be an Ethernet trailer.
 */
static __always_inline bool dtls_is_cid_record(const void *payload, const void *end, __u32 left) {
    if (!dtls_has(payload, end, left, 3))
        return false;
    return load8(payload) == 25 && load16((const __u8 *)payload + 1) == 0xfefd;
}

static __always_inline bool dtls_is_epoch_0(const void *payload, const void *end, __u32 left) {
    return dtls_has(payload, end, left, 5) && LOAD(__u16, (const __u8 *)payload + 3) == 0;
}

/* A ClientHello of message_seq 0: the start of a handshake, or its retransmission. */
static __always_inline bool dtls_is_first_client_hello(const void *payload, const void *end, __u32 left) {
    const __u8 *bytes = payload;

    if (!dtls_has(payload, end, left, 19))
        return false;
    return load8(bytes) == 22 && LOAD(__u16, bytes + 3) == 0 && load8(bytes + 13) == 1 &&
           LOAD(__u16, bytes + 17) == 0;
}

/* Where a connection ID holds the node id: `span` bytes from payload byte `start`, then `shift` and `mask`.
 */
struct id_place {
    __u16 start;
    __u8 span;  /* 1..5 */
    __u8 shift; /* 0..7 */
    __u32 mask;
};

/* Read the node id; false where the datagram ends before it. */
static __always_inline bool dtls_node_id(const void *payload, const void *end, __u32 left,
                                         struct id_place place, __u32 *id) {
    const __u8 *at = (const __u8 *)payload + (place.start & 0x1ff);
    __u32 span = place.span;
    __u64 bytes = 0;

    if (left < place.start + span)
        return false;
    if (at + 8 <= (const __u8 *)end) {
        bytes = load64(at) >> ((64 - 8 * span) & 63);
    } else {
        for (__u32 i = 0; i < 5; i++) {
            if (i >= span)
                break;
            OPAQUE(at); /* the verifier takes no arithmetic on `end`, which clang would compare with */
            if (at + 1 > (const __u8 *)end)
                return false;
            bytes = bytes << 8 | load8(at++);
        }
    }
    *id = (__u32)(bytes >> (place.shift & 7)) & place.mask;
    return true;
}

#endif
