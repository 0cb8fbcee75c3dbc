/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "util.h"

/* Timers: a binary heap in heap[1..timers]; every timer knows its position. */
static struct timer **heap;
static size_t timers, capacity;

static void put(size_t position, struct timer *timer) {
    heap[position] = timer;
    timer->position = position;
}

static void settle(struct timer *timer, size_t position) {
    while (position > 1 && heap[position / 2]->at > timer->at) {
        put(position, heap[position / 2]);
        position /= 2;
    }
    for (;;) {
        size_t child = 2 * position;
        if (child < timers && heap[child + 1]->at < heap[child]->at)
            child++;
        if (child > timers || heap[child]->at >= timer->at)
            break;
        put(position, heap[child]);
        position = child;
    }
    put(position, timer);
}

void timer_set(struct timer *timer, int64_t at) {
    timer->at = at;
    if (!timer->position) {
        if (timers + 2 > capacity) {
            capacity = capacity ? 2 * capacity : 64;
            heap = realloc(heap, capacity * sizeof *heap);
            if (!heap)
                die("out of memory");
        }
        put(++timers, timer);
    }
    settle(timer, timer->position);
}

void timer_cancel(struct timer *timer) {
    size_t position = timer->position;
    if (!position)
        return;
    timer->position = 0;
    struct timer *last = heap[timers--];
    if (last != timer)
        settle(last, position);
}

static int poll_fd = -1;
static bool running;

static int poller(void) {
    if (poll_fd < 0 && (poll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1: %s", strerror(errno));
    return poll_fd;
}

bool loop_watch(struct watch *watch) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};
    return epoll_ctl(poller(), EPOLL_CTL_ADD, watch->fd, &event) == 0;
}

void loop_unwatch(struct watch *watch) { epoll_ctl(poller(), EPOLL_CTL_DEL, watch->fd, NULL); }

static void (*signal_handler)(int signal);
static struct watch signal_watch;

static void signal_ready(void *owner) {
    struct signalfd_siginfo info;
    (void)owner;
    while (read(signal_watch.fd, &info, sizeof info) == sizeof info)
        signal_handler((int)info.ssi_signo);
}

void loop_signals(void (*handler)(int signal)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal_handler = handler;
    signal_watch = (struct watch){
        .fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .ready = signal_ready, .owner = NULL};
    if (signal_watch.fd < 0 || !loop_watch(&signal_watch))
        die("signalfd: %s", strerror(errno));
}

static void fire_timers(void) {
    int64_t now = now_ms();
    /* At most as many as there are now, so that timers that set themselves anew do not starve the
     * descriptors. */
    for (size_t left = timers; running && left && timers && heap[1]->at <= now; left--) {
        struct timer *timer = heap[1];
        timer_cancel(timer);
        timer->fire(timer->owner);
    }
}

void loop_run(void) {
    struct epoll_event events[64];
    running = true;
    while (running) {
        int wait = -1;
        if (timers) {
            int64_t left = heap[1]->at - now_ms();
            wait = left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
        }
        int count = epoll_wait(poller(), events, 64, wait);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count && running; i++) {
            struct watch *watch = events[i].data.ptr;
            watch->ready(watch->owner);
        }
        fire_timers();
    }
}

void loop_stop(void) { running = false; }
