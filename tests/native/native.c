/* SPDX-License-Identifier: Apache-2.0 */
/* The pure headers of the XDP programs as a library: what tests/native/library.py calls. */
#include "bucket.h"
#include "checksum.h"
#include "dtls.h"
#include "flow.h"
#include "prefix.h"
#include "records.h"
#include "translation.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

/* The library is loaded into a process that was not built for AddressSanitizer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "verify_asan_link_order=0:detect_leaks=0:handle_segv=0"; }

/* A read where nothing is mapped comes back as OUTSIDE, so that the test can look for a shorter example. */
enum { OUTSIDE = -1 };

static sigjmp_buf outside;

static void jump_out(int signal) { siglongjmp(outside, signal); }

#define GUARDED(call)                                                                                        \
    ({                                                                                                       \
        struct sigaction before, jump = {.sa_handler = jump_out};                                            \
        volatile int result = OUTSIDE;                                                                       \
        sigaction(SIGSEGV, &jump, &before);                                                                  \
        if (!sigsetjmp(outside, 1))                                                                          \
            result = call;                                                                                   \
        sigaction(SIGSEGV, &before, NULL);                                                                   \
        result;                                                                                              \
    })

int native_is_cid_record(const void *payload, const void *end, __u32 left) {
    return GUARDED(dtls_is_cid_record(payload, end, left));
}

int native_is_epoch_0(const void *payload, const void *end, __u32 left) {
    return GUARDED(dtls_is_epoch_0(payload, end, left));
}

int native_is_first_client_hello(const void *payload, const void *end, __u32 left) {
    return GUARDED(dtls_is_first_client_hello(payload, end, left));
}

int native_node_id(const void *payload, const void *end, __u32 left, __u16 start, __u8 span, __u8 shift,
                   __u32 mask, __u32 *id) {
    return GUARDED(dtls_node_id(payload, end, left, (struct id_place){start, span, shift, mask}, id));
}

/* Fault, or 0, in the low byte; the kinds above it. */
int native_records_judge(const void *payload, const void *end, __u32 size, __u32 flags, __u32 cid_length) {
    struct records records = {};

    return GUARDED(({
        int fault =
            (int)records_judge(payload, end, size, (struct record_rules){flags, cid_length}, &records);

        (int)records.kinds << 8 | fault;
    }));
}

int native_cookie_given(const void *payload, const void *end, __u32 size, struct cookie *cookie) {
    return GUARDED(cookie_given(payload, end, size, cookie));
}

int native_cookie_brought(const void *payload, const void *end, __u32 size, struct cookie *cookie) {
    return GUARDED(cookie_brought(payload, end, size, cookie));
}

int native_bucket_take(__u64 *bucket, __u64 quarter, __u64 depth, __u32 quarters, __u64 clock) {
    return bucket_take(bucket, (struct budget){quarter, depth}, quarters, clock);
}

__u16 native_fold(__u32 sum) { return checksum_fold(sum); }

__u32 native_delta16(__u16 old, __u16 new) { return delta16(old, new); }

__u32 native_delta32(__u32 old, __u32 new) { return delta32(old, new); }

__u16 native_update(__u16 checksum, __u32 delta) { return checksum_update(checksum, delta); }

__u16 native_udp_update(__u16 checksum, __u32 delta) { return udp_checksum_update(checksum, delta); }

__u16 native_ipv4_header_sum(const void *header) { return ipv4_header_sum(header); }

struct hash native_jhash_client4(__u32 address, __u16 port, __u32 seed) {
    return jhash_client4(address, port, seed);
}

struct hash native_jhash_client6(const __u32 *address, __u16 port, __u32 seed) {
    return jhash_client6(address, port, seed);
}

int native_translation_is_free(__u64 state, __u32 now) { return translation_is_free(state, now); }

int native_translation_is_live(__u64 state, __u32 now) { return translation_is_live(state, now); }

int native_translation_is_same(__u64 one, __u64 other) { return translation_is_same(one, other); }

__u64 native_translation_claimed(__u64 state, __u32 now) { return translation_claimed(state, now); }

__u64 native_translation_heard(__u64 state, __u32 now, __u32 ticks, __u32 ended, int opens) {
    return translation_heard(state, now, ticks, ended, opens);
}

int native_flow_counts(__u64 entry) { return flow_counts(entry); }

__u32 native_prefix_word(__u32 word, __u32 bits) { return prefix_word(word, bits); }

void native_prefix_of(__u32 *address, __u32 bits) { prefix_of(address, bits); }

__u32 native_reciprocal_scale(__u32 value, __u32 size) { return reciprocal_scale(value, size); }

struct flow_place native_flow_place(struct hash client, __u64 salt) { return flow_place(client, salt); }

__u32 native_flow_bucket(__u32 pair, __u32 tag, __u32 pairs) {
    return flow_bucket((struct flow_place){pair, tag}, pairs);
}
__u64 native_flow_swept(__u64 entry, __u32 now) { return flow_swept(entry, now); }

__u64 native_flow_entry(__u32 tag, __u32 label, __u32 class, __u32 deadline) {
    return flow_entry(tag, label, class, deadline);
}

__u32 native_flow_tag(__u64 entry) { return flow_tag(entry); }

__u32 native_flow_label(__u64 entry) { return flow_label(entry); }

__u32 native_flow_class(__u64 entry) { return flow_class(entry); }

__u32 native_flow_deadline(__u64 entry) { return flow_deadline(entry); }

__u32 native_flow_ticks(__u64 nanoseconds) { return flow_ticks(nanoseconds); }

__u32 native_flow_left(__u64 entry, __u32 now) { return flow_left(entry, now); }

__u32 native_flow_find(const __u64 *bucket, __u32 tag) { return flow_find(bucket, tag); }

__u32 native_flow_victim(const __u64 *bucket, __u32 now, __u32 ways, __u32 *worth) {
    return flow_victim(bucket, now, ways, worth);
}
