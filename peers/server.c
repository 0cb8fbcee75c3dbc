/* SPDX-License-Identifier: Apache-2.0 */
/* The server role: one UDP socket, many sessions, found by connection ID or by the peer's address. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dtls.h"
#include "loop.h"
#include "roles.h"
#include "util.h"

static const char help[] =
    "usage: cidpeer server --listen ADDR:PORT [OPTION]...\n"
    "\n"
    "Answers every message with 'node=NAME handshake=K cid=HEX peer=ADDR:PORT echo=MESSAGE', where K counts "
    "this\n"
    "process's finished handshakes and stays the same as long as the session lives.\n"
    "\n"
    "  --listen ADDR:PORT           192.0.2.10:5684 or [2001:db8::10]:5684; port 0: any (see the event "
    "\"ready\")\n"
    "  --name NAME                  this node's name in the answers (n1)\n"
    "  --psk HEX                    pre-shared key (" DEFAULT_PSK "); the identity is 'device'\n"
    "  --no-cookie                  no HelloVerifyRequest\n"
    "  --no-cid                     do not agree on connection IDs\n"
    "  --cid-length BYTES           of the CIDs that this server gives out, 0 to 32 (6)\n"
    "  --cid-prefix HEX             their first bytes; the rest is random\n"
    "  --cid-id N --cid-offset-bits O --cid-bits B\n"
    "                               instead: bits O to O+B of each CID hold the number N, most significant "
    "first (0, 8)\n"
    "  --handshake-timeout-ms MIN:MAX   retransmission timer, doubled from MIN until MAX (1000:8000)\n"
    "  --initiate-ms N              send every session a message of our own every N ms:\n"
    "                               'node=NAME handshake=K cid=HEX peer=ADDR:PORT initiate=COUNT'\n"
    "  --max-sessions N             when there are more, the one that is idle longest goes (4096)\n"
    "  --quiet                      only the events ready, stats and summary\n"
    "  --help                       this text\n"
    "\n"
    "SIGUSR1 prints the event \"stats\"; SIGTERM prints \"summary\" and ends.\n";

static struct {
    struct address listen;
    const char *name;
    uint8_t prefix[CID_MAX];
    size_t prefix_length;
    bool has_id;
    uint64_t id;
    unsigned id_offset, id_bits;
    uint32_t initiate_ms;
    size_t max_sessions;
    bool quiet;
    uint8_t psk[PSK_MAX];
    struct dtls_settings dtls;
} options;

static struct {
    uint64_t handshakes, moved, unknown_cid, unknown_peer, answered, initiated, cookies, malformed, discarded,
        errors, closed, evicted, retransmissions;
} counters;

struct session {
    struct dtls *dtls;
    struct address peer;
    uint8_t cid[CID_MAX];
    uint8_t client_random[32];
    bool established;
    bool has_cid;    /* established with a CID of ours that is not empty */
    uint64_t number; /* of the handshake */
    uint64_t newest; /* epoch and sequence number of the newest authenticated record */
    uint64_t initiated;
    unsigned handshake_datagrams;
    struct timer timer; /* handshake retransmissions */
    struct hash_node by_cid, by_peer;
    struct session *older, *newer; /* by last use */
};

static int server_fd;
static struct hash_table by_cid;               /* every session that gave out a CID */
static struct hash_table handshaking, settled; /* by the peer's address: before and after the handshake */
static struct session *longest_idle, *latest;  /* all sessions, in the order of their last use */
static size_t sessions;
static uint8_t datagram[DATAGRAM_MAX];

static void send_to_peer(void *owner, const uint8_t *bytes, size_t length) {
    struct session *session = owner;
    /* A datagram that cannot be sent is a lost one; an error left over from an earlier one must not lose
     * this. */
    for (int tries = 0; tries < 3; tries++)
        if (sendto(server_fd, bytes, length, 0, &session->peer.any, session->peer.length) >= 0 ||
            (errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != EINTR))
            break;
}

/* Sessions. */

static void idle_unlink(struct session *session) {
    *(session->older ? &session->older->newer : &longest_idle) = session->newer;
    *(session->newer ? &session->newer->older : &latest) = session->older;
}

static void idle_link(struct session *session) {
    session->older = latest;
    session->newer = NULL;
    *(latest ? &latest->newer : &longest_idle) = session;
    latest = session;
}

static void touch(struct session *session) {
    idle_unlink(session);
    idle_link(session);
}

static void session_free(struct session *session) {
    counters.retransmissions += dtls_retransmissions(session->dtls);
    timer_cancel(&session->timer);
    hash_remove(&by_cid, &session->by_cid);
    hash_remove(session->established ? &settled : &handshaking, &session->by_peer);
    idle_unlink(session);
    dtls_free(session->dtls);
    free(session);
    sessions--;
}

static struct session *find_cid(const uint8_t *cid) {
    uint64_t hash = hash_bytes(cid, options.dtls.cid_length);
    for (struct hash_node *node = hash_first(&by_cid, hash); node; node = hash_next(node, hash)) {
        struct session *session = container_of(node, struct session, by_cid);
        if (!memcmp(session->cid, cid, options.dtls.cid_length))
            return session;
    }
    return NULL;
}

enum which { ANY, WITHOUT_CID };

/* The newest session at an address. */
static struct session *find_peer(const struct hash_table *table, const struct address *peer,
                                 enum which which) {
    uint64_t hash = address_hash(peer);
    for (struct hash_node *node = hash_first(table, hash); node; node = hash_next(node, hash)) {
        struct session *session = container_of(node, struct session, by_peer);
        if (address_equal(&session->peer, peer) && (which == ANY || !session->has_cid))
            return session;
    }
    return NULL;
}

static void put_bits(uint8_t *bytes, unsigned offset, unsigned bits, uint64_t value) {
    for (unsigned i = 0; i < bits; i++) {
        unsigned at = offset + i;
        uint8_t mask = (uint8_t)(0x80 >> at % 8);
        bool set = value >> (bits - 1 - i) & 1;
        bytes[at / 8] = (uint8_t)(set ? bytes[at / 8] | mask : bytes[at / 8] & ~mask);
    }
}

static void new_cid(uint8_t cid[CID_MAX]) {
    for (int tries = 0; tries < 1000; tries++) {
        random_bytes(cid, options.dtls.cid_length);
        memcpy(cid, options.prefix, options.prefix_length);
        if (options.has_id)
            put_bits(cid, options.id_offset, options.id_bits, options.id);
        if (!options.dtls.cid_length || !find_cid(cid))
            return;
    }
    die("no connection ID is left: --cid-length is too short for this many sessions");
}

static void handshake_timer(void *owner);

static struct session *session_new(const struct address *peer, const uint8_t *client_random) {
    if (sessions >= options.max_sessions) {
        counters.evicted++;
        session_free(longest_idle);
    }
    struct session *session = allocate(sizeof *session);
    session->peer = *peer;
    memcpy(session->client_random, client_random, sizeof session->client_random);
    session->timer = (struct timer){.fire = handshake_timer, .owner = session};
    if (options.dtls.cid && options.dtls.cid_length) {
        new_cid(session->cid);
        hash_insert(&by_cid, &session->by_cid, hash_bytes(session->cid, options.dtls.cid_length));
    }
    hash_insert(&handshaking, &session->by_peer, address_hash(peer));
    idle_link(session);
    sessions++;
    session->dtls = dtls_new(session, session->cid, peer);
    return session;
}

static void report_error(struct session *session, const char *when, const char *detail) {
    counters.errors++;
    if (options.quiet)
        return;
    json_begin("error");
    json_string("when", when);
    json_address("peer", &session->peer);
    json_string("detail", detail);
    json_end();
}

static size_t session_cid_length(const struct session *session) {
    return session->has_cid ? options.dtls.cid_length : 0;
}

static void established(struct session *session) {
    uint8_t peer_cid[CID_MAX];
    size_t peer_cid_length;
    timer_cancel(&session->timer);
    hash_remove(&handshaking, &session->by_peer);
    session->established = true;
    session->number = ++counters.handshakes;
    bool agreed = dtls_cid_agreed(session->dtls, peer_cid, &peer_cid_length);
    session->has_cid = agreed && options.dtls.cid_length;
    if (!session->has_cid) {
        hash_remove(&by_cid, &session->by_cid);
        /* The older session at this address could not be told from this one any more. */
        struct session *older = find_peer(&settled, &session->peer, WITHOUT_CID);
        if (older)
            session_free(older);
    }
    hash_insert(&settled, &session->by_peer, address_hash(&session->peer));
    if (options.quiet)
        return;
    json_begin("session");
    json_number("handshake", session->number);
    json_address("peer", &session->peer);
    json_bool("cid_agreed", agreed);
    json_hex("cid", session->cid, session_cid_length(session));
    json_hex("peer_cid", peer_cid, peer_cid_length);
    json_string("cipher", dtls_cipher(session->dtls));
    json_end();
}

/* Goes on with a handshake; false when the session is gone. */
static bool handshake(struct session *session) {
    enum dtls_status status = dtls_handshake(session->dtls);
    int64_t deadline;
    switch (status) {
    case DTLS_DONE:
        established(session);
        return true;
    case DTLS_WANT:
        deadline = dtls_deadline(session->dtls);
        if (deadline >= 0)
            timer_set(&session->timer, deadline);
        else
            timer_cancel(&session->timer);
        return true;
    case DTLS_VERIFY:
        counters.cookies++;
        break;
    case DTLS_CLOSED:
        counters.closed++;
        break;
    case DTLS_FAILED:
        report_error(session, "handshake", dtls_error(session->dtls));
        break;
    }
    session_free(session);
    return false;
}

static void handshake_timer(void *owner) {
    struct session *session = owner;
    dtls_input(session->dtls, NULL, 0);
    handshake(session);
}

/* RFC 9146, section 6: the peer has moved when a record from the new address is authentic and the newest of
 * all. */
static void authenticated(struct session *session, uint64_t number, const struct address *from) {
    if (number <= session->newest)
        return;
    session->newest = number;
    if (!session->has_cid || address_equal(&session->peer, from))
        return;
    counters.moved++;
    if (!options.quiet) {
        json_begin("moved");
        json_number("handshake", session->number);
        json_hex("cid", session->cid, session_cid_length(session));
        json_address("from", &session->peer);
        json_address("to", from);
        json_end();
    }
    hash_remove(&settled, &session->by_peer);
    session->peer = *from;
    hash_insert(&settled, &session->by_peer, address_hash(from));
}

static bool send_message(struct session *session, const char *key, const uint8_t *text, size_t length) {
    static uint8_t message[MESSAGE_MAX + 512];
    char cid[2 * CID_MAX + 1], peer[ADDRESS_TEXT_SIZE];
    size_t cid_length = session_cid_length(session);
    int header = snprintf(
        (char *)message, sizeof message, "node=%s handshake=%llu cid=%s peer=%s %s=", options.name,
        (unsigned long long)session->number, cid_length ? hex_text(session->cid, cid_length, cid) : "-",
        address_text(&session->peer, peer), key);
    if (header < 0 || (size_t)header + length > sizeof message)
        return false;
    if (length)
        memcpy(message + header, text, length);
    return dtls_write(session->dtls, message, (size_t)header + length);
}

/* Reads what one record brought; false when the session is gone. */
static bool read_record(struct session *session, uint64_t number, const struct address *from) {
    static uint8_t message[DATAGRAM_MAX];
    size_t length;
    for (bool nothing = true;; nothing = false) {
        switch (dtls_read(session->dtls, message, sizeof message, &length)) {
        case DTLS_DONE:
            authenticated(session, number, from);
            if (send_message(session, "echo", message, length))
                counters.answered++;
            else
                report_error(session, "answer", dtls_error(session->dtls));
            break;
        case DTLS_CLOSED:
            counters.closed++;
            session_free(session);
            return false;
        case DTLS_FAILED:
            report_error(session, "read", dtls_error(session->dtls));
            session_free(session);
            return false;
        default:
            counters.discarded += nothing; /* a forgery, a replay, or a repeated piece of the handshake */
            return true;
        }
    }
}

/* The wire. */

enum { CHANGE_CIPHER_SPEC = 20, HANDSHAKE = 22, CONNECTION_ID = 25 };
enum { RECORD_HEADER = 13, CLIENT_RANDOM = RECORD_HEADER + 12 + 2, CLIENT_HELLO_MIN = CLIENT_RANDOM + 32 };

static uint64_t big_endian(const uint8_t *bytes, size_t length) {
    uint64_t value = 0;
    while (length--)
        value = value << 8 | *bytes++;
    return value;
}

static bool is_client_hello(const uint8_t *bytes, size_t length) {
    return length >= CLIENT_HELLO_MIN && bytes[0] == HANDSHAKE && bytes[RECORD_HEADER] == 1;
}

static void report_unknown_cid(const uint8_t *bytes, size_t length, const struct address *from) {
    static int64_t second;
    static unsigned reported;
    counters.unknown_cid++;
    if (now_ms() / 1000 != second) {
        second = now_ms() / 1000;
        reported = 0;
    }
    if (options.quiet || reported++ >= 20) /* a flood of them must not stop the server */
        return;
    json_begin("unknown_cid");
    json_hex("cid", bytes + 11,
             length - 11 < options.dtls.cid_length ? length - 11 : options.dtls.cid_length);
    json_address("peer", from);
    json_number("count", counters.unknown_cid);
    json_end();
}

/* The session that a datagram without a connection ID belongs to; NULL: none. */
static struct session *session_by_peer(const uint8_t *bytes, size_t length, const struct address *from) {
    bool plain = !bytes[3] && !bytes[4]; /* epoch 0 */
    struct session *session = find_peer(&handshaking, from, ANY);
    if (plain && is_client_hello(bytes, length)) {
        const uint8_t *client_random = bytes + CLIENT_RANDOM;
        if (session && !memcmp(session->client_random, client_random, 32))
            return session;
        struct session *before = find_peer(&settled, from, ANY);
        if (before && !memcmp(before->client_random, client_random, 32))
            return NULL; /* a late copy of the hello that made that session */
        if (session)
            session_free(session); /* the client began anew */
        return session_new(from, client_random);
    }
    if (bytes[0] == HANDSHAKE || bytes[0] == CHANGE_CIPHER_SPEC)
        return session ? session : find_peer(&settled, from, ANY);
    /* Who agreed on a CID uses it, so this is the one without. */
    struct session *without = find_peer(&settled, from, WITHOUT_CID);
    return without ? without : session;
}

/* How long is the first record? 0: not a whole one. */
static size_t record_length(const uint8_t *bytes, size_t length) {
    size_t header = RECORD_HEADER + (length && bytes[0] == CONNECTION_ID ? options.dtls.cid_length : 0);
    if (length < header)
        return 0;
    size_t total = header + (size_t)big_endian(bytes + header - 2, 2);
    return total <= length ? total : 0;
}

static void on_datagram(const uint8_t *bytes, size_t length, const struct address *from) {
    struct session *session;
    size_t first = record_length(bytes, length);
    if (!first) {
        counters.malformed++;
        return;
    }
    if (bytes[0] == CONNECTION_ID) {
        session = options.dtls.cid && options.dtls.cid_length ? find_cid(bytes + 11) : NULL;
        if (!session) {
            report_unknown_cid(bytes, length, from);
            return;
        }
    } else {
        session = session_by_peer(bytes, length, from);
        if (!session) {
            counters.unknown_peer++;
            return;
        }
    }
    touch(session);
    if (!session->established && ++session->handshake_datagrams > HANDSHAKE_DATAGRAMS_MAX) {
        report_error(session, "handshake", "too many datagrams");
        session_free(session);
        return;
    }
    /* One record at a time, so that it is known which one was authentic. */
    for (size_t size = first; size; bytes += size, length -= size, size = record_length(bytes, length)) {
        uint64_t number = big_endian(bytes + 3, 8);
        dtls_input(session->dtls, bytes, size);
        if (!(session->established ? read_record(session, number, from) : handshake(session)))
            return;
    }
}

static void on_readable(void *owner) {
    (void)owner;
    for (int budget = 64; budget; budget--) {
        struct address from = {.length = sizeof from.ip6};
        ssize_t length = recvfrom(server_fd, datagram, sizeof datagram, 0, &from.any, &from.length);
        if (length < 0) {
            if (errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == EINTR)
                continue; /* news about something sent earlier */
            return;
        }
        on_datagram(datagram, (size_t)length, &from);
    }
}

/* Events of the whole process. */

static void report(const char *event) {
    size_t open = 0;
    uint64_t retransmissions = counters.retransmissions;
    for (struct session *session = longest_idle; session; session = session->newer) {
        open += session->established;
        retransmissions += dtls_retransmissions(session->dtls);
    }
    json_begin(event);
    json_string("name", options.name);
    json_number("handshakes", counters.handshakes);
    json_number("moved", counters.moved);
    json_number("unknown_cid", counters.unknown_cid);
    json_number("unknown_peer", counters.unknown_peer);
    json_number("answered", counters.answered);
    json_number("initiated", counters.initiated);
    json_number("errors", counters.errors);
    json_number("sessions", open);
    json_number("handshaking", sessions - open);
    json_number("cookies", counters.cookies);
    json_number("handshake_retransmissions", retransmissions);
    json_number("closed", counters.closed);
    json_number("evicted", counters.evicted);
    json_number("discarded", counters.discarded);
    json_number("malformed", counters.malformed);
    json_end();
}

static void on_signal(int number) {
    if (number == SIGUSR1)
        report("stats");
    else
        loop_stop();
}

static struct timer initiate_timer;

static void initiate(void *owner) {
    (void)owner;
    for (struct session *session = longest_idle; session; session = session->newer) {
        char count[24];
        if (!session->established)
            continue;
        int length = snprintf(count, sizeof count, "%llu", (unsigned long long)++session->initiated);
        if (send_message(session, "initiate", (const uint8_t *)count, (size_t)length))
            counters.initiated++;
    }
    timer_set(&initiate_timer, now_ms() + options.initiate_ms);
}

static void parse_options(int argc, char **argv) {
    enum {
        LISTEN = 1,
        NAME,
        PSK,
        NO_COOKIE,
        NO_CID,
        LENGTH,
        PREFIX,
        ID,
        OFFSET,
        BITS,
        TIMEOUT,
        INITIATE,
        MAX,
        QUIET,
        HELP
    };
    static const struct option known[] = {
        {"listen", 1, NULL, LISTEN},
        {"name", 1, NULL, NAME},
        {"psk", 1, NULL, PSK},
        {"no-cookie", 0, NULL, NO_COOKIE},
        {"no-cid", 0, NULL, NO_CID},
        {"cid-length", 1, NULL, LENGTH},
        {"cid-prefix", 1, NULL, PREFIX},
        {"cid-id", 1, NULL, ID},
        {"cid-offset-bits", 1, NULL, OFFSET},
        {"cid-bits", 1, NULL, BITS},
        {"handshake-timeout-ms", 1, NULL, TIMEOUT},
        {"initiate-ms", 1, NULL, INITIATE},
        {"max-sessions", 1, NULL, MAX},
        {"quiet", 0, NULL, QUIET},
        {"help", 0, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    bool has_listen = false, has_place = false;
    options.name = "n1";
    options.id_bits = 8;
    options.max_sessions = 4096;
    options.dtls = (struct dtls_settings){.server = true,
                                          .cookie = true,
                                          .psk = options.psk,
                                          .cid = true,
                                          .cid_length = 6,
                                          .handshake_min_ms = 1000,
                                          .handshake_max_ms = 8000,
                                          .send = send_to_peer};
    options.dtls.psk_length = (size_t)hex_parse(DEFAULT_PSK, options.psk, PSK_MAX);

    for (int option; (option = next_option(argc, argv, known)) != -1;) {
        switch (option) {
        case LISTEN:
            if (!address_parse(&options.listen, optarg, true))
                die_usage("--listen wants ADDR:PORT or [ADDR]:PORT, not '%s'", optarg);
            has_listen = true;
            break;
        case NAME:
            options.name = optarg;
            if (!*optarg || strlen(optarg) > NAME_MAX_LENGTH)
                die_usage("--name wants 1 to %d characters", NAME_MAX_LENGTH);
            for (const char *c = optarg; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("._:-", *c))
                    die_usage("--name wants letters, digits and ._:- only, not '%s'", optarg);
            break;
        case PSK:
            options.dtls.psk_length = option_hex("psk", optarg, options.psk, 1, PSK_MAX);
            break;
        case NO_COOKIE:
            options.dtls.cookie = false;
            break;
        case NO_CID:
            options.dtls.cid = false;
            break;
        case LENGTH:
            options.dtls.cid_length = option_number("cid-length", optarg, 0, CID_MAX);
            break;
        case PREFIX:
            options.prefix_length = option_hex("cid-prefix", optarg, options.prefix, 1, CID_MAX);
            break;
        case ID:
            options.id = option_number("cid-id", optarg, 0, UINT64_MAX);
            options.has_id = true;
            break;
        case OFFSET:
            options.id_offset = (unsigned)option_number("cid-offset-bits", optarg, 0, 8 * CID_MAX - 1);
            has_place = true;
            break;
        case BITS:
            options.id_bits = (unsigned)option_number("cid-bits", optarg, 1, 64);
            has_place = true;
            break;
        case TIMEOUT:
            option_range_ms("handshake-timeout-ms", optarg, &options.dtls.handshake_min_ms,
                            &options.dtls.handshake_max_ms);
            break;
        case INITIATE:
            options.initiate_ms = (uint32_t)option_number("initiate-ms", optarg, 1, 3600000);
            break;
        case MAX:
            options.max_sessions = option_number("max-sessions", optarg, 1, 1000000);
            break;
        case QUIET:
            options.quiet = true;
            break;
        case HELP:
            fputs(help, stdout);
            exit(0);
        }
    }
    if (!has_listen)
        die_usage("--listen ADDR:PORT is needed");
    if (options.prefix_length > options.dtls.cid_length)
        die_usage("--cid-prefix is longer than --cid-length (%zu)", options.dtls.cid_length);
    if (options.prefix_length && options.has_id)
        die_usage("--cid-prefix and --cid-id exclude each other");
    if (has_place && !options.has_id)
        die_usage("--cid-offset-bits and --cid-bits need --cid-id");
    if (options.has_id && options.id_offset + options.id_bits > 8 * options.dtls.cid_length)
        die_usage("bits %u to %u do not fit into a CID of %zu bytes", options.id_offset,
                  options.id_offset + options.id_bits, options.dtls.cid_length);
    if (options.has_id && options.id_bits < 64 && options.id >> options.id_bits)
        die_usage("--cid-id %llu does not fit into %u bits", (unsigned long long)options.id, options.id_bits);
}

static void open_socket(void) {
    int size = 4 << 20, on = 1;
    server_fd = socket(options.listen.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server_fd < 0)
        die("socket: %s", strerror(errno));
    if (setsockopt(server_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(server_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (options.listen.any.sa_family == AF_INET6)
        setsockopt(server_fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(server_fd, &options.listen.any, options.listen.length)) {
        char text[ADDRESS_TEXT_SIZE];
        die("cannot listen on %s: %s", address_text(&options.listen, text), strerror(errno));
    }
    options.listen.length = sizeof options.listen.ip6;
    getsockname(server_fd, &options.listen.any, &options.listen.length);
}

int server_main(int argc, char **argv) {
    parse_options(argc, argv);
    loop_signals(on_signal);
    open_socket();
    dtls_setup(&options.dtls);

    struct watch watch = {.fd = server_fd, .ready = on_readable};
    if (!loop_watch(&watch))
        die("epoll: %s", strerror(errno));
    if (options.initiate_ms) {
        initiate_timer = (struct timer){.fire = initiate};
        timer_set(&initiate_timer, now_ms() + options.initiate_ms);
    }
    json_begin("ready");
    json_string("role", "server");
    json_string("name", options.name);
    json_address("listen", &options.listen);
    json_number("cid_length", options.dtls.cid ? options.dtls.cid_length : 0);
    json_string("library", dtls_library);
    json_number("pid", (uint64_t)getpid());
    json_end();

    loop_run();
    report("summary");
    while (longest_idle)
        session_free(longest_idle);
    hash_free(&by_cid);
    hash_free(&handshaking);
    hash_free(&settled);
    dtls_teardown();
    return 0;
}
