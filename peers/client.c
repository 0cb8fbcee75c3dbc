/* SPDX-License-Identifier: Apache-2.0 */
/* The client role: many sessions, each with a socket of its own that may be exchanged in mid-session. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dtls.h"
#include "loop.h"
#include "roles.h"
#include "util.h"

static const char help[] =
    "usage: cidpeer client --connect ADDR:PORT [OPTION]...\n"
    "\n"
    "Every session makes one handshake and sends one request after the other. An answer counts when it holds "
    "the\n"
    "request and comes from the node, the handshake and the CID that gave the session's first answer.\n"
    "\n"
    "  --connect ADDR:PORT          192.0.2.10:5684 or [2001:db8::10]:5684\n"
    "  --sessions N                 (1)\n"
    "  --requests R                 of each session, then it ends; 0: handshakes only (no end)\n"
    "  --duration SECONDS           of the whole run (no end)\n"
    "  --gap-ms G                   between a session's answer and its next request (100)\n"
    "  --start-gap-ms S             between two sessions' starts (1)\n"
    "  --payload-bytes B            length that requests are padded to, up to 15000 (as short as possible)\n"
    "  --timeout-ms T               waiting time for an answer (2000)\n"
    "  --retries N                  times that a request is sent again before it counts as lost (0)\n"
    "  --rebind-every K             new socket, thus new source port, after every K requests\n"
    "  --source ADDR                local address; may be repeated: session i starts with the i-th, and "
    "every rebind\n"
    "                               takes the next\n"
    "  --cid empty|none|HEX         the CID that we want to receive; none: without the extension (empty)\n"
    "  --handshake-timeout-ms MIN:MAX   retransmission timer, doubled from MIN until MAX (1000:8000)\n"
    "  --handshake-pause-ms P       wait before each of our handshake flights but the first (0)\n"
    "  --psk HEX                    pre-shared key (" DEFAULT_PSK "); the identity is 'device'\n"
    "  --report-ms N                between two events \"progress\"; 0: none (500)\n"
    "  --quiet                      no events for single sessions\n"
    "  --help                       this text\n"
    "\n"
    "On stdin, a line 'rebind' makes all sessions rebind at once and 'stop' ends the run, as SIGTERM does: "
    "requests\n"
    "under way are still waited for. The exit status is 0 if all that was asked for was handshaken, answered "
    "and\n"
    "unchanged, else 1.\n";

#define MAX_SOURCES 256
#define MAX_HELD 16

static struct {
    struct address connect;
    struct address sources[MAX_SOURCES];
    size_t source_count;
    size_t sessions;
    bool limited; /* by --requests */
    uint64_t requests, duration_s, rebind_every;
    uint32_t gap_ms, start_gap_ms, timeout_ms, pause_ms, report_ms, retries;
    size_t payload_bytes;
    bool quiet;
    uint8_t cid[CID_MAX], psk[PSK_MAX];
    struct dtls_settings dtls;
} options = {.sessions = 1, .gap_ms = 100, .start_gap_ms = 1, .timeout_ms = 2000, .report_ms = 500};

static struct {
    uint64_t handshakes_ok, handshakes_failed, requests, answered, lost, wrong, late, retries, rebinds,
        unsolicited, closed, retransmissions;
} counters;

enum state { UNSTARTED, HANDSHAKING, IDLE, AWAITING, FINISHED, FAILED };

struct held { /* a datagram that waits for the handshake pause to end */
    struct held *next;
    size_t length;
    uint8_t bytes[];
};

struct session {
    size_t number;
    enum state state;
    struct watch watch;
    struct timer timer; /* whatever the state waits for */
    struct dtls *dtls;
    struct address local;
    size_t source;
    uint64_t request; /* number of the current one, from 1 */
    uint32_t retries_left;
    bool rebind_wanted;
    bool completed; /* made all the requests that were asked for */
    int64_t started;
    int64_t handshake_ms;
    char *identity; /* "node=... handshake=... cid=..." of the first message */
    struct held *held;
    size_t held_count;
    unsigned retransmissions_seen;
    unsigned handshake_datagrams;
};

static struct session *all;
static size_t unfinished; /* sessions that are not FINISHED or FAILED */
static bool stopping;
static int64_t run_started;

static struct {
    char name[NAME_MAX_LENGTH + 1];
    uint64_t sessions;
} *nodes;
static size_t node_count;

static void count_node(const char *name, size_t length) {
    if (length > NAME_MAX_LENGTH)
        length = NAME_MAX_LENGTH;
    for (size_t i = 0; i < node_count; i++)
        if (strlen(nodes[i].name) == length && !memcmp(nodes[i].name, name, length)) {
            nodes[i].sessions++;
            return;
        }
    nodes = realloc(nodes, (node_count + 1) * sizeof *nodes);
    if (!nodes)
        die("out of memory");
    memcpy(nodes[node_count].name, name, length);
    nodes[node_count].name[length] = 0;
    nodes[node_count++].sessions = 1;
}

/* Events. */

static void session_event(const char *event, const struct session *session) {
    json_begin(event);
    json_number("session", session->number);
    json_address("source", &session->local);
}

static void report(const char *event) {
    size_t active = 0, handshaking = 0;
    for (size_t i = 0; i < options.sessions; i++) {
        active += all[i].state == IDLE || all[i].state == AWAITING;
        handshaking += all[i].state == HANDSHAKING;
    }
    json_begin(event);
    json_number("elapsed_ms", (uint64_t)(now_ms() - run_started));
    json_number("sessions", options.sessions);
    json_number("active", active);
    json_number("handshaking", handshaking);
    json_number("handshakes_ok", counters.handshakes_ok);
    json_number("handshakes_failed", counters.handshakes_failed);
    json_number("handshake_retransmissions", counters.retransmissions);
    json_number("requests", counters.requests);
    json_number("answered", counters.answered);
    json_number("lost", counters.lost);
    json_number("wrong", counters.wrong);
    json_number("late", counters.late);
    json_number("retries", counters.retries);
    json_number("rebinds", counters.rebinds);
    json_number("unsolicited", counters.unsolicited);
    json_number("closed", counters.closed);
    json_open("nodes");
    for (size_t i = 0; i < node_count; i++)
        json_number(nodes[i].name, nodes[i].sessions);
    json_close();
}

static bool all_is_well(void) {
    if (counters.handshakes_ok != options.sessions || counters.lost || counters.wrong || counters.closed)
        return false;
    for (size_t i = 0; options.limited && i < options.sessions; i++)
        if (!all[i].completed)
            return false;
    return true;
}

/* Sockets. */

static void on_readable(void *owner);

static void send_datagram(void *owner, const uint8_t *bytes, size_t length) {
    struct session *session = owner;
    /* What cannot be sent is lost, as on any UDP path. Old news (port unreachable) must not lose this
     * datagram. */
    for (int tries = 0; tries < 3; tries++)
        if (send(session->watch.fd, bytes, length, 0) >= 0 ||
            (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != EINTR))
            break;
}

static void open_socket(struct session *session) {
    char text[ADDRESS_TEXT_SIZE];
    session->watch.fd = socket(options.connect.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (session->watch.fd < 0)
        die("socket: %s", strerror(errno));
    if (options.source_count) {
        const struct address *source = &options.sources[session->source % options.source_count];
        if (bind(session->watch.fd, &source->any, source->length))
            die("cannot use the source address %s: %s", address_text(source, text), strerror(errno));
    }
    if (connect(session->watch.fd, &options.connect.any, options.connect.length))
        die("cannot reach %s: %s", address_text(&options.connect, text), strerror(errno));
    session->local.length = sizeof session->local.ip6;
    getsockname(session->watch.fd, &session->local.any, &session->local.length);
    if (!loop_watch(&session->watch))
        die("epoll: %s", strerror(errno));
}

static void rebind(struct session *session) {
    struct watch old = session->watch;
    session->source++;
    open_socket(session); /* before the old one is closed, so that the port is another */
    loop_unwatch(&old);
    close(old.fd);
    session->rebind_wanted = false;
    counters.rebinds++;
}

/* A session's life. */

static void drop_held(struct session *session) {
    for (struct held *next; session->held; session->held = next) {
        next = session->held->next;
        free(session->held);
    }
    session->held_count = 0;
}

static void end_session(struct session *session, enum state state) {
    timer_cancel(&session->timer);
    drop_held(session);
    if (session->dtls) {
        if (session->state == IDLE || session->state == AWAITING)
            dtls_goodbye(session->dtls);
        dtls_free(session->dtls);
        session->dtls = NULL;
        loop_unwatch(&session->watch);
        close(session->watch.fd);
    }
    session->state = state;
    if (!--unfinished)
        loop_stop();
}

static size_t write_request(const struct session *session, char *out) {
    size_t length = (size_t)sprintf(out, "s%zu-r%llu", session->number, (unsigned long long)session->request);
    if (length < options.payload_bytes) {
        out[length++] = '-';
        memset(out + length, '.', options.payload_bytes - length);
        length = options.payload_bytes;
    }
    return length;
}

static void send_request(struct session *session) {
    static char request[MESSAGE_MAX + 64];
    size_t length = write_request(session, request);
    dtls_write(session->dtls, (const uint8_t *)request,
               length); /* if it failed, the answer will be missing */
    timer_set(&session->timer, now_ms() + options.timeout_ms);
}

static void next_request(struct session *session) {
    if (options.limited && session->request >= options.requests)
        session->completed = true;
    if (stopping || session->completed) {
        end_session(session, FINISHED);
        return;
    }
    if (session->rebind_wanted ||
        (options.rebind_every && session->request && session->request % options.rebind_every == 0))
        rebind(session);
    session->request++;
    session->retries_left = options.retries;
    session->state = AWAITING;
    counters.requests++;
    send_request(session);
}

static void request_over(struct session *session) {
    session->state = IDLE;
    if (stopping || (options.limited && session->request >= options.requests)) {
        next_request(session);
        return;
    }
    if (session->rebind_wanted)
        rebind(session);
    timer_set(&session->timer, now_ms() + options.gap_ms);
}

static void wrong(struct session *session, const char *what, const char *detail, size_t length) {
    counters.wrong++;
    session_event("wrong", session);
    json_number("request", session->request);
    json_string("what", what);
    if (session->identity)
        json_string("expected", session->identity);
    json_string_n("detail", detail, length < 200 ? length : 200);
    json_end();
}

static void first_message(struct session *session, const char *identity, size_t length) {
    uint8_t cid[CID_MAX];
    size_t cid_length;
    session->identity = allocate(length + 1);
    memcpy(session->identity, identity, length);
    const char *name = session->identity + strlen("node=");
    size_t name_length = strcspn(name, " ");
    count_node(name, name_length);
    if (options.quiet)
        return;
    const char *number = strstr(name, " handshake=");
    session_event("session", session);
    json_string_n("node", name, name_length);
    json_number("handshake", number ? strtoull(number + strlen(" handshake="), NULL, 10) : 0);
    json_bool("cid_agreed", dtls_cid_agreed(session->dtls, cid, &cid_length));
    json_hex("cid", cid, cid_length);
    json_string("cipher", dtls_cipher(session->dtls));
    json_number("handshake_ms", (uint64_t)session->handshake_ms);
    json_number("handshake_retransmissions", dtls_retransmissions(session->dtls));
    json_end();
}

/* Is this echo the one of an earlier request of this session (or a second one)? */
static bool is_late(const struct session *session, const char *echo, size_t length) {
    char text[64] = "";
    size_t number;
    unsigned long long request;
    memcpy(text, echo, length < sizeof text - 1 ? length : sizeof text - 1);
    return sscanf(text, "s%zu-r%llu", &number, &request) == 2 && number == session->number &&
           (request < session->request || (request == session->request && session->state != AWAITING));
}

static void on_message(struct session *session, const char *message, size_t length) {
    static char request[MESSAGE_MAX + 64];
    const char *identity_end = memmem(message, length, " peer=", 6);
    const char *body =
        identity_end ? memchr(identity_end + 1, ' ', length - (size_t)(identity_end + 1 - message)) : NULL;
    if (!body || memcmp(message, "node=", 5) || !memchr(body, '=', length - (size_t)(body - message))) {
        wrong(session, "unreadable", message, length);
        return;
    }
    size_t identity_length = (size_t)(identity_end - message);
    if (!session->identity)
        first_message(session, message, identity_length);
    bool same =
        strlen(session->identity) == identity_length && !memcmp(session->identity, message, identity_length);

    const char *echo = (const char *)memchr(body, '=', length - (size_t)(body - message)) + 1;
    size_t echo_length = length - (size_t)(echo - message);
    if ((size_t)(echo - body) == strlen(" initiate=") && !memcmp(body, " initiate=", strlen(" initiate="))) {
        counters.unsolicited++;
        if (!same)
            wrong(session, "identity", message, length);
        return;
    }
    bool expected = session->state == AWAITING && write_request(session, request) == echo_length &&
                    !memcmp(request, echo, echo_length);
    if (!same)
        wrong(session, "identity", message, length);
    else if (expected)
        counters.answered++;
    else if (is_late(session, echo, echo_length))
        counters.late++;
    else
        wrong(session, "echo", message, length);
    if (expected)
        request_over(session);
}

static void lost(struct session *session, const char *detail) {
    counters.lost++;
    session_event("lost", session);
    json_number("request", session->request);
    if (session->identity)
        json_string("expected", session->identity);
    json_string("detail", detail);
    json_end();
}

static void read_messages(struct session *session) {
    static uint8_t message[DATAGRAM_MAX];
    size_t length;
    while (session->state == IDLE || session->state == AWAITING) {
        enum dtls_status status = dtls_read(session->dtls, message, sizeof message, &length);
        if (status == DTLS_WANT)
            return;
        if (status == DTLS_DONE) {
            on_message(session, (const char *)message, length);
            continue;
        }
        const char *detail =
            status == DTLS_CLOSED ? "the server closed the session" : dtls_error(session->dtls);
        counters.closed++;
        if (session->state == AWAITING) {
            lost(session, detail);
        } else if (!options.quiet) {
            session_event("closed", session);
            json_string("detail", detail);
            json_end();
        }
        end_session(session, FAILED);
    }
}

static void handshake_failed(struct session *session, const char *detail) {
    counters.handshakes_failed++;
    session_event("failed", session);
    json_string("detail", detail);
    json_end();
    end_session(session, FAILED);
}

static void handshake(struct session *session) {
    enum dtls_status status = dtls_handshake(session->dtls);
    unsigned seen = dtls_retransmissions(session->dtls);
    int64_t deadline;
    counters.retransmissions += seen - session->retransmissions_seen;
    session->retransmissions_seen = seen;
    switch (status) {
    case DTLS_DONE:
        counters.handshakes_ok++;
        session->handshake_ms = now_ms() - session->started;
        session->state = IDLE;
        drop_held(session);
        timer_set(&session->timer, now_ms());
        return;
    case DTLS_WANT:
        deadline = dtls_deadline(session->dtls);
        if (session->held)
            return; /* the timer is the pause's */
        if (deadline >= 0)
            timer_set(&session->timer, deadline);
        else
            timer_cancel(&session->timer);
        return;
    default:
        handshake_failed(session, status == DTLS_CLOSED ? "the server closed the handshake"
                                                        : dtls_error(session->dtls));
    }
}

static void on_datagram(struct session *session, const uint8_t *bytes, size_t length) {
    enum { CHANGE_CIPHER_SPEC = 20 };
    if (session->state == HANDSHAKING && ++session->handshake_datagrams > HANDSHAKE_DATAGRAMS_MAX) {
        handshake_failed(session, "too many datagrams");
        return;
    }
    /* A flight of the server's that asks for one of ours. ChangeCipherSpec begins its last one, which does
     * not. */
    if (session->state == HANDSHAKING && options.pause_ms &&
        (session->held || bytes[0] != CHANGE_CIPHER_SPEC)) {
        if (session->held_count == MAX_HELD)
            return;
        struct held *held = allocate(sizeof *held + length), **tail = &session->held;
        held->length = length;
        memcpy(held->bytes, bytes, length);
        if (!session->held) {
            timer_set(&session->timer, now_ms() + options.pause_ms);
            dtls_postpone(session->dtls, options.pause_ms);
        }
        while (*tail)
            tail = &(*tail)->next;
        *tail = held;
        session->held_count++;
        return;
    }
    dtls_input(session->dtls, bytes, length);
    if (session->state == HANDSHAKING)
        handshake(session);
    read_messages(session);
}

static void on_readable(void *owner) {
    static uint8_t datagram[DATAGRAM_MAX];
    struct session *session = owner;
    while (session->dtls) {
        ssize_t length = recv(session->watch.fd, datagram, sizeof datagram, 0);
        if (length < 0) {
            if (errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == EINTR)
                continue;
            return;
        }
        if (length)
            on_datagram(session, datagram, (size_t)length);
    }
}

static void on_timer(void *owner) {
    struct session *session = owner;
    switch (session->state) {
    case UNSTARTED:
        session->started = now_ms();
        session->state = HANDSHAKING;
        open_socket(session);
        session->dtls = dtls_new(session, options.cid, &options.connect);
        handshake(session);
        break;
    case HANDSHAKING:
        if (session->held) { /* the pause is over */
            struct held *list = session->held;
            session->held = NULL;
            session->held_count = 0;
            for (struct held *next; list; list = next) {
                next = list->next;
                if (session->dtls) {
                    dtls_input(session->dtls, list->bytes, list->length);
                    if (session->state == HANDSHAKING)
                        handshake(session);
                    read_messages(session);
                }
                free(list);
            }
        } else {
            dtls_input(session->dtls, NULL, 0);
            handshake(session);
        }
        break;
    case IDLE:
        next_request(session);
        break;
    case AWAITING:
        if (session->retries_left) {
            session->retries_left--;
            counters.retries++;
            send_request(session);
        } else {
            lost(session, "no answer");
            request_over(session);
        }
        break;
    default:
        break;
    }
}

/* The run. */

static void stop(void) {
    if (stopping) {
        loop_stop();
        return;
    }
    stopping = true;
    for (size_t i = 0; i < options.sessions; i++)
        switch (all[i].state) {
        case UNSTARTED:
        case HANDSHAKING:
            end_session(&all[i], FAILED);
            break;
        case IDLE:
            end_session(&all[i], FINISHED);
            break;
        default: /* a request under way is waited for */
            break;
        }
}

static void rebind_all(void) {
    for (size_t i = 0; i < options.sessions; i++) {
        if (all[i].state == IDLE)
            rebind(&all[i]);
        else if (all[i].state == AWAITING)
            all[i].rebind_wanted = true; /* with the answer, which would be lost otherwise */
    }
}

static void on_signal(int number) {
    if (number == SIGUSR1) {
        report("progress");
        json_end();
    } else {
        stop();
    }
}

static struct timer report_timer, duration_timer;
static struct watch stdin_watch;

static void on_report(void *owner) {
    (void)owner;
    report("progress");
    json_end();
    timer_set(&report_timer, report_timer.at + options.report_ms > now_ms()
                                 ? report_timer.at + options.report_ms
                                 : now_ms() + options.report_ms);
}

static void on_duration(void *owner) {
    (void)owner;
    if (!stopping)
        stop();
}

static void on_stdin(void *owner) {
    static char line[64];
    static size_t used;
    char input[256];
    (void)owner;
    ssize_t length = read(STDIN_FILENO, input, sizeof input);
    if (length <= 0) {
        if (length == 0 || errno != EINTR)
            loop_unwatch(&stdin_watch);
        return;
    }
    for (ssize_t i = 0; i < length; i++) {
        if (input[i] != '\n') {
            if (used < sizeof line - 1)
                line[used++] = input[i];
            continue;
        }
        line[used] = 0;
        used = 0;
        if (!strcmp(line, "rebind"))
            rebind_all();
        else if (!strcmp(line, "stop"))
            stop();
    }
}

static void parse_options(int argc, char **argv) {
    enum {
        CONNECT = 1,
        SESSIONS,
        REQUESTS,
        DURATION,
        GAP,
        START_GAP,
        PAYLOAD,
        TIMEOUT,
        RETRIES,
        REBIND,
        SOURCE,
        CID,
        HANDSHAKE_TIMEOUT,
        PAUSE,
        PSK,
        REPORT,
        QUIET,
        HELP
    };
    static const struct option known[] = {
        {"connect", 1, NULL, CONNECT},
        {"sessions", 1, NULL, SESSIONS},
        {"requests", 1, NULL, REQUESTS},
        {"duration", 1, NULL, DURATION},
        {"gap-ms", 1, NULL, GAP},
        {"start-gap-ms", 1, NULL, START_GAP},
        {"payload-bytes", 1, NULL, PAYLOAD},
        {"timeout-ms", 1, NULL, TIMEOUT},
        {"retries", 1, NULL, RETRIES},
        {"rebind-every", 1, NULL, REBIND},
        {"source", 1, NULL, SOURCE},
        {"cid", 1, NULL, CID},
        {"handshake-timeout-ms", 1, NULL, HANDSHAKE_TIMEOUT},
        {"handshake-pause-ms", 1, NULL, PAUSE},
        {"psk", 1, NULL, PSK},
        {"report-ms", 1, NULL, REPORT},
        {"quiet", 0, NULL, QUIET},
        {"help", 0, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    const uint64_t day_ms = 86400000;
    bool has_connect = false;
    options.dtls = (struct dtls_settings){.psk = options.psk,
                                          .cid = true,
                                          .handshake_min_ms = 1000,
                                          .handshake_max_ms = 8000,
                                          .send = send_datagram};
    options.dtls.psk_length = (size_t)hex_parse(DEFAULT_PSK, options.psk, PSK_MAX);

    for (int option; (option = next_option(argc, argv, known)) != -1;) {
        switch (option) {
        case CONNECT:
            if (!address_parse(&options.connect, optarg, true))
                die_usage("--connect wants ADDR:PORT or [ADDR]:PORT, not '%s'", optarg);
            has_connect = true;
            break;
        case SESSIONS:
            options.sessions = option_number("sessions", optarg, 1, 100000);
            break;
        case REQUESTS:
            options.requests = option_number("requests", optarg, 0, UINT64_MAX);
            options.limited = true;
            break;
        case DURATION:
            options.duration_s = option_number("duration", optarg, 1, day_ms / 1000);
            break;
        case GAP:
            options.gap_ms = (uint32_t)option_number("gap-ms", optarg, 0, day_ms);
            break;
        case START_GAP:
            options.start_gap_ms = (uint32_t)option_number("start-gap-ms", optarg, 0, day_ms);
            break;
        case PAYLOAD:
            options.payload_bytes = option_number("payload-bytes", optarg, 0, MESSAGE_MAX);
            break;
        case TIMEOUT:
            options.timeout_ms = (uint32_t)option_number("timeout-ms", optarg, 1, day_ms);
            break;
        case RETRIES:
            options.retries = (uint32_t)option_number("retries", optarg, 0, 1000);
            break;
        case REBIND:
            options.rebind_every = option_number("rebind-every", optarg, 0, UINT64_MAX);
            break;
        case SOURCE:
            if (options.source_count == MAX_SOURCES)
                die_usage("more than %d times --source", MAX_SOURCES);
            if (!address_parse(&options.sources[options.source_count++], optarg, false))
                die_usage("--source wants an address without a port, not '%s'", optarg);
            break;
        case CID:
            options.dtls.cid = strcmp(optarg, "none") != 0;
            options.dtls.cid_length = 0;
            if (options.dtls.cid && strcmp(optarg, "empty"))
                options.dtls.cid_length = option_hex("cid", optarg, options.cid, 1, CID_MAX);
            break;
        case HANDSHAKE_TIMEOUT:
            option_range_ms("handshake-timeout-ms", optarg, &options.dtls.handshake_min_ms,
                            &options.dtls.handshake_max_ms);
            break;
        case PAUSE:
            options.pause_ms = (uint32_t)option_number("handshake-pause-ms", optarg, 0, day_ms);
            break;
        case PSK:
            options.dtls.psk_length = option_hex("psk", optarg, options.psk, 1, PSK_MAX);
            break;
        case REPORT:
            options.report_ms = (uint32_t)option_number("report-ms", optarg, 0, day_ms);
            break;
        case QUIET:
            options.quiet = true;
            break;
        case HELP:
            fputs(help, stdout);
            exit(0);
        }
    }
    if (!has_connect)
        die_usage("--connect ADDR:PORT is needed");
    for (size_t i = 0; i < options.source_count; i++)
        if (options.sources[i].any.sa_family != options.connect.any.sa_family)
            die_usage("--source and --connect must be of one address family");
}

static void allow_sockets(size_t count) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= count)
        return;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < count)
        die("%zu sessions need %zu open files, but the limit is %llu (ulimit -n)", options.sessions, count,
            (unsigned long long)limit.rlim_max);
    limit.rlim_cur = count;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        die("setrlimit: %s", strerror(errno));
}

int client_main(int argc, char **argv) {
    parse_options(argc, argv);
    allow_sockets(options.sessions + 32);
    loop_signals(on_signal);
    signal(SIGTTIN, SIG_IGN);
    dtls_setup(&options.dtls);

    run_started = now_ms();
    unfinished = options.sessions;
    all = allocate(options.sessions * sizeof *all);
    for (size_t i = 0; i < options.sessions; i++) {
        all[i].number = i;
        all[i].source = i;
        all[i].watch = (struct watch){.fd = -1, .ready = on_readable, .owner = &all[i]};
        all[i].timer = (struct timer){.fire = on_timer, .owner = &all[i]};
        timer_set(&all[i].timer, run_started + (int64_t)i * options.start_gap_ms);
    }
    report_timer = (struct timer){.fire = on_report};
    if (options.report_ms)
        timer_set(&report_timer, run_started + options.report_ms);
    duration_timer = (struct timer){.fire = on_duration};
    if (options.duration_s)
        timer_set(&duration_timer, run_started + (int64_t)options.duration_s * 1000);
    stdin_watch = (struct watch){.fd = STDIN_FILENO, .ready = on_stdin};
    loop_watch(&stdin_watch); /* not every stdin can be watched, and none is needed */

    json_begin("ready");
    json_string("role", "client");
    json_address("connect", &options.connect);
    json_number("sessions", options.sessions);
    json_string("library", dtls_library);
    json_number("pid", (uint64_t)getpid());
    json_end();

    loop_run();
    bool well = all_is_well();
    report("summary");
    json_bool("ok", well);
    json_end();
    for (size_t i = 0; i < options.sessions; i++) {
        if (all[i].state < FINISHED)
            end_session(&all[i], FAILED);
        free(all[i].identity);
    }
    free(all);
    free(nodes);
    dtls_teardown();
    return well ? 0 : 1;
}
