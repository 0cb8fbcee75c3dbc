/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const char *program_name = "cidpeer";

static void complain(const char *format, va_list args) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    exit(1);
}

void die_usage(const char *format, ...) {
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    exit(2);
}

void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory)
        die("out of memory");
    return memory;
}

void random_bytes(void *out, size_t length) {
    if (length && getrandom(out, length, 0) != (ssize_t)length)
        die("getrandom: %s", strerror(errno));
}

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* "192.0.2.10:5684", "[2001:db8::10]:5684"; without a port "192.0.2.10", "2001:db8::10" or "[2001:db8::10]".
 */
bool address_parse(struct address *address, const char *text, bool with_port) {
    char host[128];
    const char *port = NULL;
    size_t length = strlen(text);
    const char *end = text + length;

    if (with_port) {
        port = strrchr(text, ':');
        if (!port || !port[1] || strlen(port + 1) > 5 || strspn(port + 1, "0123456789") != strlen(port + 1) ||
            atoi(port + 1) > 65535)
            return false;
        end = port++;
    }
    bool bracketed = text[0] == '[' && end > text + 1 && end[-1] == ']';
    if (bracketed) {
        text++;
        end--;
    }
    length = (size_t)(end - text);
    if (!length || length >= sizeof host)
        return false;
    memcpy(host, text, length);
    host[length] = 0;
    bool ip6 = strchr(host, ':') != NULL;
    if ((bracketed && !ip6) || (with_port && ip6 && !bracketed))
        return false;

    struct addrinfo hints = {.ai_family = ip6 ? AF_INET6 : AF_INET,
                             .ai_socktype = SOCK_DGRAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    struct in_addr strict;
    if (!ip6 && inet_pton(AF_INET, host, &strict) != 1)
        return false;
    if (getaddrinfo(host, port ? port : "0", &hints, &found))
        return false;
    memset(address, 0, sizeof *address);
    memcpy(&address->any, found->ai_addr, found->ai_addrlen);
    address->length = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

const char *address_text(const struct address *address, char text[ADDRESS_TEXT_SIZE]) {
    char host[INET6_ADDRSTRLEN] = "";
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->ip6.sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(address->ip6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->ip4.sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(address->ip4.sin_port));
    }
    return text;
}

size_t address_key(const struct address *address, uint8_t key[20]) {
    if (address->any.sa_family == AF_INET6) {
        memcpy(key, &address->ip6.sin6_port, 2);
        memcpy(key + 2, &address->ip6.sin6_addr, 16);
        return 18;
    }
    memcpy(key, &address->ip4.sin_port, 2);
    memcpy(key + 2, &address->ip4.sin_addr, 4);
    return 6;
}

bool address_equal(const struct address *a, const struct address *b) {
    uint8_t key_a[20], key_b[20];
    size_t length = address_key(a, key_a);
    return a->any.sa_family == b->any.sa_family && address_key(b, key_b) == length &&
           !memcmp(key_a, key_b, length) &&
           (a->any.sa_family != AF_INET6 || a->ip6.sin6_scope_id == b->ip6.sin6_scope_id);
}

uint64_t address_hash(const struct address *address) {
    uint8_t key[20];
    return hash_bytes(key, address_key(address, key));
}

int hex_parse(const char *text, uint8_t *out, size_t max) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    size_t length = strlen(text);
    if (!length || length % 2 || length / 2 > max)
        return -1;
    for (size_t i = 0; i < length; i++) {
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return -1;
        unsigned value = (unsigned)(digit - digits) % 16;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | value : value << 4);
    }
    return (int)(length / 2);
}

const char *hex_text(const uint8_t *bytes, size_t length, char *text) {
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    text[2 * length] = 0;
    return text;
}

int next_option(int argc, char **argv, const struct option *options) {
    opterr = 0;
    int at = optind;
    int option = getopt_long(argc, argv, "+:", options, NULL);
    if (option == ':')
        die_usage("%s needs a value", argv[optind - 1]);
    if (option == '?')
        die_usage("unknown option '%s'", argv[at ? at : 1]);
    if (option == -1 && optind < argc)
        die_usage("unexpected argument '%s'", argv[optind]);
    return option;
}

uint64_t option_number(const char *option, const char *text, uint64_t min, uint64_t max) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
        die_usage("--%s wants a number from %llu to %llu, not '%s'", option, (unsigned long long)min,
                  (unsigned long long)max, text);
    return value;
}

size_t option_hex(const char *option, const char *text, uint8_t *out, size_t min, size_t max) {
    int length = hex_parse(text, out, max);
    if (length < (int)min)
        die_usage("--%s wants %zu to %zu bytes in hexadecimal, not '%s'", option, min, max, text);
    return (size_t)length;
}

void option_range_ms(const char *option, const char *text, uint32_t *min, uint32_t *max) {
    char first[16] = "";
    const char *colon = strchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof first)
        die_usage("--%s wants MIN:MAX in milliseconds, not '%s'", option, text);
    memcpy(first, text, (size_t)(colon - text));
    *min = (uint32_t)option_number(option, first, 1, 600000);
    *max = (uint32_t)option_number(option, colon + 1, *min, 600000);
}

static bool json_comma;

static void json_quoted(const char *text, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            printf("\\u%04x", c); /* bytes beyond ASCII are shown as if they were Latin-1 */
        else
            putchar(c);
    }
    putchar('"');
}

static void json_key(const char *key) {
    if (json_comma)
        putchar(',');
    json_comma = true;
    json_quoted(key, strlen(key));
    putchar(':');
}

void json_begin(const char *event) {
    putchar('{');
    json_comma = false;
    json_string("event", event);
}

void json_string(const char *key, const char *value) { json_string_n(key, value, strlen(value)); }

void json_string_n(const char *key, const char *value, size_t length) {
    json_key(key);
    json_quoted(value, length);
}

void json_number(const char *key, uint64_t value) {
    json_key(key);
    printf("%llu", (unsigned long long)value);
}

void json_bool(const char *key, bool value) {
    json_key(key);
    fputs(value ? "true" : "false", stdout);
}

void json_address(const char *key, const struct address *address) {
    char text[ADDRESS_TEXT_SIZE];
    json_string(key, address_text(address, text));
}

void json_hex(const char *key, const uint8_t *bytes, size_t length) {
    char text[2 * CID_MAX + 1];
    json_string(key, hex_text(bytes, length < CID_MAX ? length : CID_MAX, text));
}

void json_open(const char *key) {
    json_key(key);
    putchar('{');
    json_comma = false;
}

void json_close(void) {
    putchar('}');
    json_comma = true;
}

void json_end(void) {
    puts("}");
    fflush(stdout);
}

uint64_t hash_bytes(const void *bytes, size_t length) {
    const uint8_t *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, with a final mix for the low bits */
    while (length--)
        hash = (hash ^ *p++) * 0x100000001b3u;
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15u >> 8;
}

static void hash_grow(struct hash_table *table) {
    size_t size = table->slots ? 2 * (table->mask + 1) : 64;
    struct hash_node **slots = allocate(size * sizeof *slots);
    for (size_t i = 0; table->slots && i <= table->mask; i++) {
        /* Chains are kept in order: newest first. */
        for (struct hash_node *node = table->slots[i], *next; node; node = next) {
            struct hash_node **tail = &slots[node->hash & (size - 1)];
            next = node->next;
            while (*tail)
                tail = &(*tail)->next;
            node->next = NULL;
            *tail = node;
        }
    }
    free(table->slots);
    table->slots = slots;
    table->mask = size - 1;
}

void hash_insert(struct hash_table *table, struct hash_node *node, uint64_t hash) {
    if (!table->slots || table->count > table->mask)
        hash_grow(table);
    struct hash_node **slot = &table->slots[hash & table->mask];
    node->hash = hash;
    node->next = *slot;
    node->linked = true;
    *slot = node;
    table->count++;
}

void hash_remove(struct hash_table *table, struct hash_node *node) {
    if (!node->linked)
        return;
    struct hash_node **link = &table->slots[node->hash & table->mask];
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    node->linked = false;
    table->count--;
}

static struct hash_node *skip_others(struct hash_node *node, uint64_t hash) {
    while (node && node->hash != hash)
        node = node->next;
    return node;
}

struct hash_node *hash_first(const struct hash_table *table, uint64_t hash) {
    return table->slots ? skip_others(table->slots[hash & table->mask], hash) : NULL;
}

struct hash_node *hash_next(const struct hash_node *node, uint64_t hash) {
    return skip_others(node->next, hash);
}

void hash_free(struct hash_table *table) {
    free(table->slots);
    *table = (struct hash_table){0};
}
