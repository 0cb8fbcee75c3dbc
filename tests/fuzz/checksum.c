/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.h mends a checksum to what summing up everything again gives. */
#include "lib/checksum.h"

#include "input.h"

enum { WORDS = 512 };

static uint16_t whole(const uint16_t *words, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += words[i];
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void header_is_summed(const uint8_t *bytes, size_t size) {
    uint16_t words[10];
    if (size < sizeof(words))
        return;
    memcpy(words, bytes, sizeof(words));
    HOLDS(ipv4_header_sum(bytes) == (uint16_t)~whole(words, 10));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    uint16_t words[WORDS];
    size_t count = 0;

    header_is_summed(bytes, size);
    /* The words come first; then follow changes: where, and to what. */
    size_t held = take(&input, 2) % WORDS + 1;
    while (count < held)
        words[count++] = (uint16_t)take(&input, 2);
    uint16_t before = whole(words, count);
    uint16_t udp = before ? before : 0xffff;
    uint32_t delta = 0;
    for (int changes = 0; input.left && changes < 1 << 14; changes++) {
        size_t at = take(&input, 2) % count;
        if (at + 1 < count && at % 2) {
            uint32_t new = (uint32_t)take(&input, 4), old;
            memcpy(&old, words + at, 4);
            delta += delta32(old, new);
            memcpy(words + at, &new, 4);
        } else {
            uint16_t new = (uint16_t)take(&input, 2);
            delta += delta16(words[at], new);
            words[at] = new;
        }
    }
    uint16_t after = whole(words, count);
    HOLDS(checksum_fold(delta) % 0xffff == delta % 0xffff);
    HOLDS(udp_checksum_update(0, delta) == 0);
    HOLDS(udp_checksum_update(udp, delta) != 0);
    /* All zeros sum up to the zero that a mended checksum never has; nothing that is sent is all zeros. */
    if (after != 0xffff) {
        HOLDS(checksum_update(before, delta) == after);
        HOLDS(udp_checksum_update(udp, delta) == (after ? after : 0xffff));
    }
    return 0;
}
