/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The form of DTLS records: RFC 6347 section 4.1, RFC 9146 section 4, RFC 9147 section 4. Pure;
 * src/pointsman/ wire/records.py means the same.
 */
#ifndef POINTSMAN_RECORDS_H
#define POINTSMAN_RECORDS_H

#include "dtls.h"

#define RECORDS_MOST 32        /* records of a datagram that are looked at; further ones pass */
#define RECORDS_REACH 0x3fff   /* and no record that begins behind this byte */
#define RECORD_BODY_MOST 18432 /* RFC 5246 section 6.2.3 */
#define RECORD_SEALED_LEAST 16 /* RFC 9147 section 4.2.3 */
#define RECORD_COOKIE_LEAST 8  /* a shorter cookie could be guessed */

#define RECORDS_WALK 1 /* look at every record, not at the first one only */
#define RECORDS_DTLS13 2

/* What is held against a datagram. */
enum record_fault {
    RECORDS_FINE = 0,
    RECORDS_NOT_DTLS,
    RECORDS_BAD_LENGTH,
    RECORDS_BAD_EPOCH,
    RECORDS_MORE, /* nothing yet: there is a record behind this one */
};

/* What a record is. */
#define RECORD_HELLO 1     /* a ClientHello of epoch 0 */
#define RECORD_ANSWERS 2   /* likewise, with message_seq above 0: the one that brings a cookie back */
#define RECORD_CID 4       /* has a connection ID */
#define RECORD_PROTECTED 8 /* epoch above 0 */

struct record_rules {
    __u32 flags;
    __u32 cid_length; /* 1..255, 0: not known */
};

struct record {
    __u32 size; /* with its header; 0: it cannot be told */
    __u32 kind;
};

/* DTLS 1.3: 001CSLEE, [connection ID], sequence number, [length], ciphertext. */
static __always_inline enum record_fault record_unified(const __u8 *at, const void *end, __u32 rest,
                                                        struct record_rules rules, struct record *record) {
    __u8 first = load8(at);
    __u32 header = 1 + (first & 8 ? 2 : 1) + (first & 4 ? 2 : 0), length;

    record->kind = RECORD_PROTECTED;
    if (first & 16) {
        record->kind |= RECORD_CID;
        if (!rules.cid_length)
            return rest < header + 1 + RECORD_SEALED_LEAST ? RECORDS_BAD_LENGTH : RECORDS_FINE;
        header += rules.cid_length & 0xff;
    }
    if (!dtls_has(at, end, rest, header) || rest - header < RECORD_SEALED_LEAST)
        return RECORDS_BAD_LENGTH;
    record->size = rest;
    if (!(first & 4))
        return RECORDS_FINE;
    length = load16(at + header - 2);
    if (length < RECORD_SEALED_LEAST || length > RECORD_BODY_MOST || length > rest - header)
        return RECORDS_BAD_LENGTH;
    record->size = header + length;
    return RECORDS_FINE;
}

/* A ClientHello's message type and version where they would stand in the clear. */
static __always_inline bool record_shows_hello(const __u8 *at, const void *end, __u32 rest) {
    __u16 version;

    if (!dtls_has(at, end, rest, 27) || load8(at + 13) != 1)
        return false;
    version = load16(at + 25);
    return version == 0xfefd || version == 0xfeff;
}

/* Read the record at `at`; `rest` bytes of the datagram begin there, of which memory up to `end` is at hand.
 */
static __always_inline enum record_fault record_read(const __u8 *at, const void *end, __u32 rest,
                                                     struct record_rules rules, struct record *record) {
    __u32 header = 13, length, epoch;
    __u16 version;
    __u8 type;

    record->size = 0;
    record->kind = 0;
    if (!dtls_has(at, end, rest, 1))
        return RECORDS_NOT_DTLS;
    type = load8(at);
    if ((type & 0xe0) == 0x20)
        return rules.flags & RECORDS_DTLS13 ? record_unified(at, end, rest, rules, record) : RECORDS_NOT_DTLS;
    if (type < 20 || type > (rules.flags & RECORDS_DTLS13 ? 26 : 25) || !dtls_has(at, end, rest, 3))
        return RECORDS_NOT_DTLS;
    version = load16(at + 1);
    if (type == 22 && dtls_has(at, end, rest, 14) && LOAD(__u16, at + 3) == 0 && load8(at + 13) == 1) {
        record->kind = RECORD_HELLO;
        if (dtls_has(at, end, rest, 19) && LOAD(__u16, at + 17) != 0)
            record->kind |= RECORD_ANSWERS;
    }
    if (version != 0xfefd && !(version == 0xfeff && record->kind))
        return RECORDS_NOT_DTLS;
    if (!dtls_has(at, end, rest, header))
        return RECORDS_BAD_LENGTH;
    epoch = load16(at + 3);
    if (epoch)
        record->kind |= RECORD_PROTECTED;
    if (type == 25) {
        record->kind |= RECORD_CID;
        header += rules.cid_length & 0xff;
    }
    if (type == 25 && !rules.cid_length) {
        if (rest < header + 1)
            return RECORDS_BAD_LENGTH;
    } else {
        if (!dtls_has(at, end, rest, header))
            return RECORDS_BAD_LENGTH;
        length = load16(at + header - 2);
        if (!length || length > RECORD_BODY_MOST || length > rest - header)
            return RECORDS_BAD_LENGTH;
        record->size = header + length;
    }
    if (type == 25 && !epoch)
        return RECORDS_BAD_EPOCH;
    if (type == 22 && epoch && record_shows_hello(at, end, rest))
        return RECORDS_BAD_EPOCH;
    return RECORDS_FINE;
}

/* How far a datagram was read. */
struct records {
    __u32 next;  /* where the next record begins */
    __u32 kinds; /* of the first record, and the ClientHellos of all that were looked at */
};

/*
 * Judge the next record of a datagram of `size` bytes. What follows a record of unknown length is not looked
 * at.
 */
static __always_inline enum record_fault records_step(const void *payload, const void *end, __u32 size,
                                                      struct record_rules rules, struct records *records) {
    __u32 at = records->next & RECORDS_REACH;
    enum record_fault fault;
    struct record record;

    fault = record_read((const __u8 *)payload + at, end, size - at, rules, &record);
    if (!at)
        records->kinds = record.kind;
    if (fault)
        return fault;
    records->kinds |= record.kind & (RECORD_HELLO | RECORD_ANSWERS);
    at += record.size;
    records->next = at;
    if (!(rules.flags & RECORDS_WALK) || !record.size || at >= size || at > RECORDS_REACH)
        return RECORDS_FINE;
    return RECORDS_MORE;
}

/* Judge a datagram as far as RECORDS_MOST records; the programs' own loop is in filter.h. */
static __always_inline enum record_fault records_judge(const void *payload, const void *end, __u32 size,
                                                       struct record_rules rules, struct records *records) {
    for (int number = 0; number < RECORDS_MOST; number++) {
        enum record_fault fault = records_step(payload, end, size, rules, records);

        if (fault != RECORDS_MORE)
            return fault;
    }
    return RECORDS_FINE;
}

/* A cookie's first 16 bytes, or 8, with zeros behind; those of two cookies are hardly ever the same. */
struct cookie {
    __u64 start;
    __u64 more;
};

static __always_inline bool cookie_at(const __u8 *at, const void *end, __u32 rest, struct cookie *cookie) {
    __u32 length;

    if (!dtls_has(at, end, rest, 1))
        return false;
    length = load8(at);
    if (length < RECORD_COOKIE_LEAST || !dtls_has(at, end, rest, 1 + RECORD_COOKIE_LEAST))
        return false;
    cookie->start = LOAD(__u64, at + 1);
    cookie->more = 0;
    if (length >= 16 && dtls_has(at, end, rest, 17))
        cookie->more = LOAD(__u64, at + 9);
    return true;
}

/* The cookie that a datagram's first record hands out: a HelloVerifyRequest's (RFC 6347 section 4.2.1). */
static __always_inline bool cookie_given(const void *payload, const void *end, __u32 size,
                                         struct cookie *cookie) {
    const __u8 *bytes = payload;

    if (!dtls_has(payload, end, size, 28) || load8(bytes) != 22 || LOAD(__u16, bytes + 3) ||
        load8(bytes + 13) != 3)
        return false;
    return cookie_at(bytes + 27, end, size - 27, cookie);
}

/* The cookie that a ClientHello in the datagram's first record brings, behind its session id. */
static __always_inline bool cookie_brought(const void *payload, const void *end, __u32 size,
                                           struct cookie *cookie) {
    const __u8 *bytes = payload;
    __u32 session;

    if (!dtls_has(payload, end, size, 60) || load8(bytes) != 22 || LOAD(__u16, bytes + 3) ||
        load8(bytes + 13) != 1)
        return false;
    session = load8(bytes + 59);
    /* A fragment of a ClientHello that is not its start has something else there. */
    if (session > 32 || load8(bytes + 19) || LOAD(__u16, bytes + 20) || size < 60 + session)
        return false;
    return cookie_at(bytes + 60 + (session & 63), end, size - 60 - session, cookie);
}

#endif
