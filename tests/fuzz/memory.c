/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h over a small table: clients come, are answered, close and go, and the memory is held against a
 * list of what has to be in it. Its maps are an array here; everything else is the programs' own.
 */
#define POINTSMAN_COUNT_H /* maps and helpers are the kernel's */

#include "input.h"

#include "abi.h"
#include "lib/flow.h"

struct bucket {
    __u64 way[FLOW_WAYS];
};

enum { BUCKETS = 4, CLIENTS = 64 };

static struct bucket flows[BUCKETS];
static struct config settings[1] = {{.flags = CONFIG_COUNT_FLOWS}};
static __s64 connections[1 << 10];

/* What the sweep keeps of where it was. */
static struct scratch {
    __u32 swept, sweeping;
} scratch[1];

#define __noinline static inline
#define AT(map, index) (&(map)[index])

#include "memory.h"

/* A flow as it was last written, in time that does not go round. */
struct known {
    bool live; /* until it is over, or made room */
    __u32 class, label;
    uint64_t deadline;
};

static struct known known[CLIENTS];
static struct hash clients[CLIENTS];
static struct flow_table table;
static uint64_t now;

/* Clients of equal tags share a node by design: they are not for this test. */
static bool tags_differ(void) {
    for (int one = 0; one < CLIENTS; one++)
        for (int other = 0; other < one; other++)
            if (flow_place(clients[one], table.salt).tag == flow_place(clients[other], table.salt).tag)
                return false;
    return true;
}

static bool should_live(const struct known *flow) { return flow->live && flow->deadline > now; }

static bool is_in(const struct bucket *bucket, int client) {
    for (__u32 way = 0; way < FLOW_WAYS; way++)
        if (flow_tag(bucket->way[way]) == flow_place(clients[client], table.salt).tag &&
            flow_left(bucket->way[way], (__u32)now))
            return true;
    return false;
}

/* Whether a bucket has an empty or expired way, or a flow that makes room. */
static bool has_room(const struct bucket *bucket) {
    __u32 kept = 0;
    for (int client = 0; client < CLIENTS; client++)
        kept += should_live(&known[client]) && known[client].class == FLOW_ANSWERED && is_in(bucket, client);
    return kept < table.ways;
}

/* A memory of every flow that should live is there, right, and only once. */
static void remembers_all(void) {
    for (int client = 0; client < CLIENTS; client++) {
        struct memory memory;
        bool found = recall(&table, clients[client], (__u32)now, &memory);
        HOLDS(found == should_live(&known[client]));
        if (!found)
            continue;
        HOLDS(flow_label(*memory.entry) == known[client].label);
        HOLDS(flow_class(*memory.entry) == known[client].class);
        HOLDS(flow_left(*memory.entry, (__u32)now) == known[client].deadline - now);
    }
}

/* What the programs have counted is what there is. */
static void counts_all(void) {
    __s64 there[1 << 10] = {0};
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        for (int way = 0; way < FLOW_WAYS; way++)
            there[flow_label(flows[bucket].way[way])] += flow_counts(flows[bucket].way[way]);
    for (int label = 0; label < 1 << 10; label++)
        HOLDS(connections[label] == there[label]);
}

/* Who made room is forgotten; that may be one, and none that was answered. */
static void forget_who_made_room(int newcomer) {
    int gone = 0;
    for (int client = 0; client < CLIENTS; client++) {
        struct memory memory;
        if (client == newcomer || !should_live(&known[client]) ||
            recall(&table, clients[client], (__u32)now, &memory))
            continue;
        HOLDS(known[client].class != FLOW_ANSWERED);
        known[client].live = false;
        gone++;
    }
    HOLDS(gone <= 1);
}

static void packet(int client, __u32 class, __u32 label, __u32 ticks) {
    struct memory memory;
    if (recall(&table, clients[client], (__u32)now, &memory)) {
        refresh(memory.entry, class, ticks, (__u32)now);
        known[client].class = class;
        known[client].deadline = now + ticks;
        return;
    }
    bool room = has_room(memory.first) || (memory.other && has_room(memory.other));
    HOLDS(remember(&table, &memory, label, class, ticks, (__u32)now) == room);
    if (room)
        known[client] = (struct known){true, class, label, now + ticks};
    forget_who_made_room(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    uint64_t end;

    memset(flows, 0, sizeof(flows));
    memset(known, 0, sizeof(known));
    memset(connections, 0, sizeof(connections));
    table = (struct flow_table){.salt = take(&input, 1), .pairs = 1 + take(&input, 1) % (BUCKETS / 2)};
    table.ways = 1 + take(&input, 1) % FLOW_WAYS;
    now = take(&input, 4);
    /* Entries that nobody has swept for half the clock's cycle, 6.5 days, are not for this test. */
    end = now + FLOW_HALF;
    for (__u32 client = 0; client < CLIENTS; client++)
        clients[client] = jhash_client4(client, (__u16)(client * 7), 1);
    if (!tags_differ())
        return 0;
    while (input.left) {
        __u32 class = take(&input, 1) % 4, client = take(&input, 1) % CLIENTS, ticks = take(&input, 2);
        if (class == 3)
            now += ticks;
        else
            packet((int)client, class, 1 + client + class * CLIENTS, 1 + ticks);
        if (now >= end)
            return 0;
        remembers_all();
        counts_all();
    }
    return 0;
}
