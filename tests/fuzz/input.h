/* SPDX-License-Identifier: Apache-2.0 */
/* What every fuzz target takes its input with. */
#ifndef POINTSMAN_FUZZ_INPUT_H
#define POINTSMAN_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Say which promise was broken; libFuzzer keeps the input. */
#define HOLDS(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                   \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct input {
    const uint8_t *bytes;
    size_t left;
};

/* The next bytes as a little-endian number; what is not there counts as 0. */
static inline uint64_t take(struct input *input, size_t size) {
    uint64_t number = 0;
    for (size_t i = 0; i < size && input->left; i++, input->left--)
        number |= (uint64_t)*input->bytes++ << 8 * i;
    return number;
}

/* The rest in memory of exactly its size, so that AddressSanitizer sees a read beyond it. */
static inline uint8_t *take_rest(struct input *input) {
    uint8_t *copy = malloc(input->left ? input->left : 1);
    HOLDS(copy);
    if (input->left)
        memcpy(copy, input->bytes, input->left);
    return input->left ? copy : copy + 1;
}

static inline void give_back(const struct input *input, uint8_t *rest) {
    free(input->left ? rest : rest - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
