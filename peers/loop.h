/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop of the process: descriptors, timers, signals. One thread, one loop. */
#ifndef PEERS_LOOP_H
#define PEERS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A one-shot timer. Zero it, set fire and owner; position is the loop's (0: not set). */
struct timer {
    int64_t at;
    size_t position;
    void (*fire)(void *owner);
    void *owner;
};
void timer_set(struct timer *timer, int64_t at); /* at: in now_ms's time; moves a timer that is set already */
void timer_cancel(struct timer *timer);

/* A descriptor that is watched for input. */
struct watch {
    int fd;
    void (*ready)(void *owner);
    void *owner;
};
bool loop_watch(struct watch *watch); /* false: this kind of descriptor cannot be watched */
void loop_unwatch(struct watch *watch);

void loop_signals(void (*handler)(int signal)); /* SIGTERM, SIGINT and SIGUSR1 go to the handler */
void loop_run(void);                            /* until loop_stop */
void loop_stop(void);

#endif
