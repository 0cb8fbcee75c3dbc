/* SPDX-License-Identifier: Apache-2.0 */
/* records.h over any datagram: nothing is read beyond its end, and whole records are what is found fine. */
#include "lib/records.h"

#include "input.h"

/* The size of a record of DTLS 1.2 whose header is all there, 0 where the rest is too short for it. */
static size_t whole_record(const uint8_t *at, size_t rest, size_t cid_length) {
    size_t header = 13 + (at[0] == 25 ? cid_length : 0), length;
    if (rest < header)
        return 0;
    length = (size_t)at[header - 2] << 8 | at[header - 1];
    return length && rest - header >= length ? header + length : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    struct record_rules rules = {.flags = (__u32)take(&input, 1) & 3, .cid_length = (__u32)take(&input, 1)};
    __u32 missing = (__u32)take(&input, 1);
    uint8_t *payload = take_rest(&input), *end = payload + input.left;
    struct records records = {};
    struct cookie cookie;
    enum record_fault fault = records_judge(payload, end, (__u32)input.left, rules, &records);

    HOLDS(fault <= RECORDS_BAD_EPOCH);
    HOLDS(fault || input.left);
    if (!fault && !(rules.flags & RECORDS_DTLS13) && rules.cid_length) {
        size_t at = 0, number = 0;
        do {
            size_t own = whole_record(payload + at, input.left - at, rules.cid_length);
            HOLDS(own);
            HOLDS(payload[at] >= 20 && payload[at] <= 25 && payload[at + 1] == 0xfe);
            HOLDS(payload[at] != 25 || payload[at + 3] || payload[at + 4]);
            at += own;
        } while (rules.flags & RECORDS_WALK && ++number < RECORDS_MOST && at < input.left &&
                 at <= RECORDS_REACH);
    }
    /* What is missing of a datagram makes no header of it that is not there. */
    records = (struct records){};
    fault = records_judge(payload, end, (__u32)input.left + missing, rules, &records);
    HOLDS(fault <= RECORDS_BAD_EPOCH && (fault || input.left));
    if (cookie_given(payload, end, (__u32)input.left, &cookie))
        HOLDS(payload[13] == 3 && payload[27] >= 8 && input.left >= 36);
    if (cookie_brought(payload, end, (__u32)input.left, &cookie))
        HOLDS(payload[13] == 1 && payload[59] <= 32 && input.left >= 69);
    give_back(&input, payload);
    return 0;
}
