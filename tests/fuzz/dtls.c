/* SPDX-License-Identifier: Apache-2.0 */
/* dtls.h over any payload: nothing is read beyond its end, and nothing of what `left` excludes tells. */
#include "lib/dtls.h"

#include "input.h"

static bool starts_with(const uint8_t *payload, size_t size, size_t at, const char *bytes, size_t count) {
    return at + count <= size && !memcmp(payload + at, bytes, count);
}

static bool is_first_client_hello(const uint8_t *payload, size_t size) {
    return size >= 19 && payload[0] == 22 && starts_with(payload, size, 3, "\0\0", 2) && payload[13] == 1 &&
           starts_with(payload, size, 17, "\0\0", 2);
}

/* Bit by bit, from the most significant of byte `start` on. */
static uint32_t read_bits(const uint8_t *payload, size_t first, size_t bits) {
    uint32_t number = 0;
    for (size_t bit = first; bit < first + bits; bit++)
        number = number << 1 | (payload[bit / 8] >> (7 - bit % 8) & 1);
    return number;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    size_t bits = 1 + take(&input, 1) % 32;
    size_t offset = take(&input, 2) % (2040 - bits + 1);
    uint32_t left = (uint32_t)take(&input, 2);
    uint8_t *payload = take_rest(&input), *end = payload + input.left;
    size_t seen = left < input.left ? left : input.left;

    size_t span = (offset % 8 + bits + 7) / 8;
    struct id_place place = {
        .start = (__u16)(DTLS_CID_START + offset / 8),
        .span = (__u8)span,
        .shift = (__u8)(8 * span - offset % 8 - bits),
        .mask = (__u32)(((uint64_t)1 << bits) - 1),
    };
    __u32 id = 0;
    bool named = dtls_node_id(payload, end, left, place, &id);
    HOLDS(named == (seen >= place.start + span));
    HOLDS(!named || id == read_bits(payload, 8 * DTLS_CID_START + offset, bits));
    HOLDS(dtls_is_cid_record(payload, end, left) == starts_with(payload, seen, 0, "\x19\xfe\xfd", 3));
    HOLDS(dtls_is_epoch_0(payload, end, left) == starts_with(payload, seen, 3, "\0\0", 2));
    HOLDS(dtls_is_first_client_hello(payload, end, left) == is_first_client_hello(payload, seen));
    give_back(&input, payload);
    return 0;
}
