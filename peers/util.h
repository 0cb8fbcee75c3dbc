/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that both roles need: addresses, hexadecimal, JSON lines, hash tables, time. */
#ifndef PEERS_UTIL_H
#define PEERS_UTIL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#define CID_MAX 32
#define NAME_MAX_LENGTH 63

#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

/* One line on stderr, then exit: 1 for what failed, 2 for bad usage. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern const char *program_name;

void *allocate(size_t size); /* zeroed; dies when there is no memory */
void random_bytes(void *out, size_t length);

int64_t now_ms(void); /* monotonic */

/* Socket addresses, IPv4 and IPv6. */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
    };
    socklen_t length;
};
#define ADDRESS_TEXT_SIZE 72
bool address_parse(struct address *address, const char *text, bool with_port);
const char *address_text(const struct address *address, char text[ADDRESS_TEXT_SIZE]);
bool address_equal(const struct address *a, const struct address *b);
size_t address_key(const struct address *address, uint8_t key[20]); /* the bytes that identify it */
uint64_t address_hash(const struct address *address);

/* Hexadecimal. hex_parse returns the number of bytes, or -1 when the text is no hexadecimal of 1..max bytes.
 */
int hex_parse(const char *text, uint8_t *out, size_t max);
const char *hex_text(const uint8_t *bytes, size_t length, char *text); /* needs 2 * length + 1 */

/* Options. next_option is getopt_long that dies with a line of its own; the values die when they are out of
 * range. */
struct option;
int next_option(int argc, char **argv, const struct option *options);
uint64_t option_number(const char *option, const char *text, uint64_t min, uint64_t max);
size_t option_hex(const char *option, const char *text, uint8_t *out, size_t min, size_t max);
void option_range_ms(const char *option, const char *text, uint32_t *min, uint32_t *max); /* "MIN:MAX" */

/* One JSON object a line: json_begin("event"), any of the others, json_end. */
void json_begin(const char *event);
void json_string(const char *key, const char *value);
void json_string_n(const char *key, const char *value, size_t length);
void json_number(const char *key, uint64_t value);
void json_bool(const char *key, bool value);
void json_address(const char *key, const struct address *address);
void json_hex(const char *key, const uint8_t *bytes, size_t length);
void json_open(const char *key); /* a nested object */
void json_close(void);
void json_end(void);

/* Chained hash table with the links inside the entries. The caller compares keys:
 * for (struct hash_node *n = hash_first(t, h); n; n = hash_next(n, h)) */
struct hash_node {
    struct hash_node *next;
    uint64_t hash;
    bool linked;
};
struct hash_table {
    struct hash_node **slots;
    size_t mask, count;
};
uint64_t hash_bytes(const void *bytes, size_t length);
void hash_insert(struct hash_table *table, struct hash_node *node, uint64_t hash); /* newest is found first */
void hash_remove(struct hash_table *table, struct hash_node *node); /* does nothing if not linked */
struct hash_node *hash_first(const struct hash_table *table, uint64_t hash);
struct hash_node *hash_next(const struct hash_node *node, uint64_t hash);
void hash_free(struct hash_table *table);

#endif
