/* SPDX-License-Identifier: Apache-2.0 */
/* What the peers need of a DTLS 1.2 stack. One implementation per library; the roles know none of them. */
#ifndef PEERS_DTLS_H
#define PEERS_DTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

struct dtls_settings {
    bool server;
    bool cookie; /* server: HelloVerifyRequest first */
    const uint8_t *psk;
    size_t psk_length;
    bool cid;          /* offer or accept the connection_id extension */
    size_t cid_length; /* of the CIDs that this side wants to receive; may be 0 */
    uint32_t handshake_min_ms, handshake_max_ms;
    void (*send)(void *owner, const uint8_t *datagram, size_t length);
};

enum dtls_status {
    DTLS_DONE,   /* handshake: finished; read: a message was read */
    DTLS_WANT,   /* more input, or time, is needed */
    DTLS_VERIFY, /* a HelloVerifyRequest went out: forget the session, the client will come again */
    DTLS_CLOSED, /* the other side said goodbye */
    DTLS_FAILED, /* see dtls_error */
};

/* Both sides may answer a repeated flight with a repeated flight at once (RFC 6347, section 4.2.4). When a
 * handshake cannot get on, two eager libraries go on like that for ever, at full speed; so the roles give up
 * at this many. */
#define HANDSHAKE_DATAGRAMS_MAX 64

struct dtls;
#define PSK_IDENTITY "device"

extern const char dtls_library[];                      /* its name, for the events */
void dtls_setup(const struct dtls_settings *settings); /* once; dies on failure */
void dtls_teardown(void);

/* cid: what this side wants to receive (settings.cid_length bytes); peer binds the server's cookies. */
struct dtls *dtls_new(void *owner, const uint8_t *cid, const struct address *peer);
void dtls_free(struct dtls *dtls);

/* Gives a datagram, or one record of it, to the next call. The bytes must stay until that call has returned.
 */
void dtls_input(struct dtls *dtls, const uint8_t *bytes, size_t length);
enum dtls_status dtls_handshake(struct dtls *dtls); /* also to be called when the deadline has passed */
int64_t dtls_deadline(const struct dtls *dtls); /* of the retransmission timer, in now_ms's time; -1: none */
void dtls_postpone(struct dtls *dtls, uint32_t ms); /* lets a running retransmission timer end later */
unsigned dtls_retransmissions(const struct dtls *dtls);
enum dtls_status dtls_read(struct dtls *dtls, uint8_t *out, size_t size, size_t *length);
bool dtls_write(struct dtls *dtls, const uint8_t *message, size_t length);
void dtls_goodbye(struct dtls *dtls);
const char *dtls_error(struct dtls *dtls);

/* After the handshake: was the extension agreed on, and which CID does this side put on what it sends? */
bool dtls_cid_agreed(struct dtls *dtls, uint8_t peer_cid[CID_MAX], size_t *length);
const char *dtls_cipher(const struct dtls *dtls);

#endif
