/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ends of DTLS 1.3 in one process (wolfSSL): prints the client's datagrams as hexadecimal lines.
 *
 * dtls13 CID-LENGTH MTU LOSE...: the client writes connection IDs of that length (0: none), in datagrams of
 * that size; the server's datagrams with these numbers are lost.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

/* The static library of a newer Debian wants this of a newer C library. */
#if defined(__GLIBC__) && !__GLIBC_PREREQ(2, 38)
long __isoc23_strtol(const char *text, char **end, int base);
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
#endif

#define WAITING 64

struct queue {
    uint8_t bytes[WAITING][16384];
    int length[WAITING];
    unsigned first, count, passed;
    bool shown;
};

static struct queue to_server = {.shown = true}, to_client;
static int lost[16];
static unsigned lost_count;

static int put(WOLFSSL *ssl, char *bytes, int length, void *io) {
    struct queue *queue = io;
    (void)ssl;
    if (queue->shown) {
        for (int i = 0; i < length; i++)
            printf("%02x", (uint8_t)bytes[i]);
        puts("");
    } else {
        unsigned number = queue->passed++;
        for (unsigned i = 0; i < lost_count; i++)
            if (lost[i] == (int)number)
                return length;
    }
    if (queue->count < WAITING) {
        unsigned at = (queue->first + queue->count++) % WAITING;
        memcpy(queue->bytes[at], bytes, (size_t)length);
        queue->length[at] = length;
    }
    return length;
}

static int take(WOLFSSL *ssl, char *out, int size, void *io) {
    struct queue *queue = io;
    (void)ssl;
    if (!queue->count)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    int length = queue->length[queue->first] < size ? queue->length[queue->first] : size;
    memcpy(out, queue->bytes[queue->first], (size_t)length);
    queue->first = (queue->first + 1) % WAITING;
    queue->count--;
    return length;
}

static unsigned client_key(WOLFSSL *ssl, const char *hint, char *identity, unsigned room, unsigned char *key,
                           unsigned key_room, const char **suite) {
    (void)ssl, (void)hint, (void)room, (void)key_room;
    strcpy(identity, "device");
    memset(key, 7, 32);
    *suite = "TLS13-AES128-GCM-SHA256";
    return 32;
}

static unsigned server_key(WOLFSSL *ssl, const char *identity, unsigned char *key, unsigned key_room,
                           const char **suite) {
    (void)ssl, (void)identity, (void)key_room;
    memset(key, 7, 32);
    *suite = "TLS13-AES128-GCM-SHA256";
    return 32;
}

static WOLFSSL *end_of(WOLFSSL_CTX *context, struct queue *out, struct queue *in, unsigned cid, int mtu) {
    static uint8_t name[32] = {1, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7};
    wolfSSL_CTX_SetIOSend(context, put);
    wolfSSL_CTX_SetIORecv(context, take);
    WOLFSSL *ssl = wolfSSL_new(context);
    if (!ssl)
        exit(1);
    wolfSSL_SetIOWriteCtx(ssl, out);
    wolfSSL_SetIOReadCtx(ssl, in);
    wolfSSL_dtls_set_using_nonblock(ssl, 1);
    wolfSSL_dtls_set_mtu(ssl, (uint16_t)mtu);
    wolfSSL_dtls_cid_use(ssl);
    wolfSSL_dtls_cid_set(ssl, name, cid);
    return ssl;
}

/* One end's step of the handshake; true once it is finished. */
static bool step(WOLFSSL *ssl, bool server) {
    return (server ? wolfSSL_accept(ssl) : wolfSSL_connect(ssl)) == WOLFSSL_SUCCESS;
}

static void read_all(WOLFSSL *ssl) {
    char text[2048];
    while (wolfSSL_read(ssl, text, sizeof text) > 0)
        ;
}

int main(int count, char **words) {
    char text[600] = "request";
    unsigned cid = count > 1 ? (unsigned)atoi(words[1]) : 0;
    int mtu = count > 2 ? atoi(words[2]) : 1400;
    for (int i = 3; i < count && lost_count < 16; i++)
        lost[lost_count++] = atoi(words[i]);
    wolfSSL_Init();
    WOLFSSL_CTX *at_client = wolfSSL_CTX_new(wolfDTLSv1_3_client_method());
    WOLFSSL_CTX *at_server = wolfSSL_CTX_new(wolfDTLSv1_3_server_method());
    if (!at_client || !at_server)
        return 1;
    wolfSSL_CTX_set_psk_client_tls13_callback(at_client, client_key);
    wolfSSL_CTX_set_psk_server_tls13_callback(at_server, server_key);
    WOLFSSL *client = end_of(at_client, &to_server, &to_client, 0, mtu);
    WOLFSSL *server = end_of(at_server, &to_client, &to_server, cid, mtu);
    wolfSSL_dtls13_allow_ch_frag(server, 1);
    bool client_done = false, server_done = false;
    for (int turn = 0; turn < 100 && !(client_done && server_done); turn++) {
        client_done = client_done || step(client, false);
        server_done = server_done || step(server, true);
        if (client_done)
            read_all(client);
        if (turn % 10 == 9) { /* nothing came for a while: again */
            wolfSSL_dtls_got_timeout(client);
            wolfSSL_dtls_got_timeout(server);
        }
    }
    if (!client_done || !server_done) {
        fprintf(stderr, "no handshake: %d %d\n", wolfSSL_get_error(client, 0), wolfSSL_get_error(server, 0));
        return 1;
    }
    static const int sizes[] = {1, 7, 100, 600};
    for (int i = 0; i < 4; i++) {
        wolfSSL_write(client, text, sizes[i]);
        read_all(server);
        wolfSSL_write(server, text, sizes[i]);
        read_all(client); /* acknowledges what the server's handshake still sent */
    }
    wolfSSL_update_keys(client);
    read_all(server);
    read_all(client);
    wolfSSL_update_keys(server);
    read_all(client);
    read_all(server);
    wolfSSL_write(client, text, 20);
    read_all(server);
    wolfSSL_shutdown(client);
    return 0;
}
