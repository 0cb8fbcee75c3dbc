/* SPDX-License-Identifier: Apache-2.0 */
/* dtls.h on wolfSSL 5.9 */
#include "dtls.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#ifndef WOLFSSL_DTLS_CID
#error "this wolfSSL was built without connection IDs"
#endif

struct dtls {
    WOLFSSL *ssl;
    void *owner;
    const uint8_t *input;
    size_t input_length;
    bool verified;    /* server: the client has shown its cookie */
    int64_t deadline; /* of our own retransmission timer, since the library's counts in seconds; -1: not
                         running */
    uint32_t delay_ms;
    bool timed_out;
    unsigned retransmissions;
    int error;
    char error_text[WOLFSSL_MAX_ERROR_SZ + 32];
};

const char dtls_library[] = "wolfssl";

/* The largest that the library takes; messages and their headers fit. */
#define DATAGRAM_SIZE 16384

static struct dtls_settings settings;
static WOLFSSL_CTX *context;
static uint8_t cookie_secret[32];

/* The static library of a newer Debian wants this of a newer C library. */
#if defined(__GLIBC__) && !__GLIBC_PREREQ(2, 38)
long __isoc23_strtol(const char *text, char **end, int base);
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
#endif

static int send_datagram(WOLFSSL *ssl, char *bytes, int length, void *io) {
    struct dtls *dtls = io;
    (void)ssl;
    settings.send(dtls->owner, (const uint8_t *)bytes, (size_t)length);
    return length;
}

static int receive_datagram(WOLFSSL *ssl, char *out, int size, void *io) {
    struct dtls *dtls = io;
    (void)ssl;
    if (!dtls->input_length)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    size_t length = dtls->input_length < (size_t)size ? dtls->input_length : (size_t)size;
    memcpy(out, dtls->input, length);
    dtls->input_length = 0;
    return (int)length;
}

static unsigned copy_key(unsigned char *key, unsigned size) {
    if (settings.psk_length > size)
        return 0;
    memcpy(key, settings.psk, settings.psk_length);
    return (unsigned)settings.psk_length;
}

static unsigned client_key(WOLFSSL *ssl, const char *hint, char *identity, unsigned identity_size,
                           unsigned char *key, unsigned key_size) {
    (void)ssl;
    (void)hint;
    if (identity_size < sizeof PSK_IDENTITY)
        return 0;
    memcpy(identity, PSK_IDENTITY, sizeof PSK_IDENTITY);
    return copy_key(key, key_size);
}

static unsigned server_key(WOLFSSL *ssl, const char *identity, unsigned char *key, unsigned key_size) {
    (void)ssl;
    return strcmp(identity, PSK_IDENTITY) ? 0 : copy_key(key, key_size);
}

void dtls_setup(const struct dtls_settings *wanted) {
    settings = *wanted;
    if (settings.server && !settings.cookie)
        die_usage("--no-cookie: wolfSSL always asks for one");
    if (wolfSSL_Init() != WOLFSSL_SUCCESS)
        die("the cryptographic library does not start");
    context = wolfSSL_CTX_new(settings.server ? wolfDTLSv1_2_server_method() : wolfDTLSv1_2_client_method());
    /* Debian builds it without the plain PSK suites. */
    if (!context || wolfSSL_CTX_set_cipher_list(context, "ECDHE-PSK-CHACHA20-POLY1305") != WOLFSSL_SUCCESS)
        die("this wolfSSL has not the cipher suite that is needed");
    if (settings.server)
        wolfSSL_CTX_set_psk_server_callback(context, server_key);
    else
        wolfSSL_CTX_set_psk_client_callback(context, client_key);
    /* Its own choice is a strong and slow one, which tells nothing about a balancer. */
    if (wolfSSL_CTX_UseSupportedCurve(context, WOLFSSL_ECC_X25519) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_UseSupportedCurve(context, WOLFSSL_ECC_SECP256R1) != WOLFSSL_SUCCESS)
        die("this wolfSSL has not the elliptic curves that are needed");
    if (wolfSSL_CTX_dtls_set_mtu(context, DATAGRAM_SIZE) != WOLFSSL_SUCCESS)
        die("the size of the datagrams was not accepted");
    wolfSSL_CTX_SetIOSend(context, send_datagram);
    wolfSSL_CTX_SetIORecv(context, receive_datagram);
    random_bytes(cookie_secret, sizeof cookie_secret);
}

void dtls_teardown(void) {
    wolfSSL_CTX_free(context);
    wolfSSL_Cleanup();
}

struct dtls *dtls_new(void *owner, const uint8_t *cid, const struct address *peer) {
    struct dtls *dtls = allocate(sizeof *dtls);
    struct address copy = *peer;
    uint8_t own_cid[CID_MAX];
    dtls->owner = owner;
    dtls->deadline = -1;
    dtls->delay_ms = settings.handshake_min_ms;
    dtls->ssl = wolfSSL_new(context);
    if (!dtls->ssl)
        die("new session: out of memory");
    wolfSSL_SetIOReadCtx(dtls->ssl, dtls);
    wolfSSL_SetIOWriteCtx(dtls->ssl, dtls);
    wolfSSL_dtls_set_using_nonblock(dtls->ssl, 1);
    wolfSSL_dtls_set_timeout_max(dtls->ssl, 1 << 20); /* ours is what counts */
    wolfSSL_dtls_set_peer(dtls->ssl, &copy.any, copy.length);
    if (settings.cid) {
        memcpy(own_cid, cid, settings.cid_length);
        if (wolfSSL_dtls_cid_use(dtls->ssl) != WOLFSSL_SUCCESS ||
            wolfSSL_dtls_cid_set(dtls->ssl, own_cid, (unsigned)settings.cid_length) != WOLFSSL_SUCCESS)
            die("connection IDs of %zu bytes are not possible with this wolfSSL", settings.cid_length);
    }
    if (settings.server && wolfSSL_DTLS_SetCookieSecret(dtls->ssl, cookie_secret, sizeof cookie_secret) != 0)
        die("the secret of the cookies was not accepted");
    return dtls;
}

void dtls_free(struct dtls *dtls) {
    if (!dtls)
        return;
    wolfSSL_free(dtls->ssl);
    free(dtls);
}

void dtls_input(struct dtls *dtls, const uint8_t *bytes, size_t length) {
    dtls->input = bytes;
    dtls->input_length = length;
}

static void start_timer(struct dtls *dtls) { dtls->deadline = now_ms() + dtls->delay_ms; }

enum dtls_status dtls_handshake(struct dtls *dtls) {
    int result;
    if (settings.server && !dtls->verified) {
        result = wolfDTLS_accept_stateless(dtls->ssl);
        if (result == WOLFSSL_FAILURE)
            return DTLS_VERIFY;
        if (result != WOLFSSL_SUCCESS) {
            dtls->error = wolfSSL_get_error(dtls->ssl, result);
            return DTLS_FAILED;
        }
        dtls->verified = true;
    }
    if (dtls->deadline >= 0 && now_ms() >= dtls->deadline) {
        dtls->timed_out = dtls->delay_ms >= settings.handshake_max_ms;
        if (dtls->timed_out)
            return DTLS_FAILED;
        dtls->retransmissions++;
        dtls->delay_ms =
            dtls->delay_ms > settings.handshake_max_ms / 2 ? settings.handshake_max_ms : 2 * dtls->delay_ms;
        wolfSSL_dtls_got_timeout(dtls->ssl);
        start_timer(dtls);
    }
    bool had_input = dtls->input_length > 0;
    do {
        result = settings.server ? wolfSSL_accept(dtls->ssl) : wolfSSL_connect(dtls->ssl);
        dtls->error = wolfSSL_get_error(dtls->ssl, result);
    } while (result != WOLFSSL_SUCCESS && dtls->error == WOLFSSL_ERROR_WANT_READ && dtls->input_length);
    dtls->input_length = 0;
    if (result == WOLFSSL_SUCCESS) {
        dtls->deadline = -1;
        return DTLS_DONE;
    }
    if (dtls->error != WOLFSSL_ERROR_WANT_READ && dtls->error != WOLFSSL_ERROR_WANT_WRITE)
        return dtls->error == WOLFSSL_ERROR_ZERO_RETURN ? DTLS_CLOSED : DTLS_FAILED;
    if (dtls->deadline < 0 || had_input) {
        if (had_input)
            dtls->delay_ms = settings.handshake_min_ms;
        start_timer(dtls);
    }
    return DTLS_WANT;
}

int64_t dtls_deadline(const struct dtls *dtls) { return dtls->deadline; }

void dtls_postpone(struct dtls *dtls, uint32_t ms) {
    if (dtls->deadline >= 0)
        dtls->deadline += ms;
}

unsigned dtls_retransmissions(const struct dtls *dtls) { return dtls->retransmissions; }

enum dtls_status dtls_read(struct dtls *dtls, uint8_t *out, size_t size, size_t *length) {
    int result;
    do {
        result = wolfSSL_read(dtls->ssl, out, (int)size);
        dtls->error = wolfSSL_get_error(dtls->ssl, result);
    } while (result <= 0 && dtls->error == WOLFSSL_ERROR_WANT_READ && dtls->input_length);
    if (result > 0) {
        *length = (size_t)result;
        return DTLS_DONE;
    }
    if (dtls->error == WOLFSSL_ERROR_WANT_READ || dtls->error == WOLFSSL_ERROR_WANT_WRITE)
        return DTLS_WANT;
    return dtls->error == WOLFSSL_ERROR_ZERO_RETURN ? DTLS_CLOSED : DTLS_FAILED;
}

bool dtls_write(struct dtls *dtls, const uint8_t *message, size_t length) {
    int result = wolfSSL_write(dtls->ssl, message, (int)length);
    dtls->error = result > 0 ? 0 : wolfSSL_get_error(dtls->ssl, result);
    return result == (int)length;
}

void dtls_goodbye(struct dtls *dtls) { wolfSSL_shutdown(dtls->ssl); }

const char *dtls_error(struct dtls *dtls) {
    char text[WOLFSSL_MAX_ERROR_SZ];
    if (dtls->timed_out)
        return "the operation timed out";
    wolfSSL_ERR_error_string_n((unsigned long)dtls->error, text, sizeof text);
    snprintf(dtls->error_text, sizeof dtls->error_text, "%d %s", dtls->error, text);
    return dtls->error_text;
}

bool dtls_cid_agreed(struct dtls *dtls, uint8_t peer_cid[CID_MAX], size_t *length) {
    unsigned size = 0;
    *length = 0;
    if (wolfSSL_dtls_cid_is_enabled(dtls->ssl) != 1)
        return false;
    if (wolfSSL_dtls_cid_get_tx_size(dtls->ssl, &size) == WOLFSSL_SUCCESS && size && size <= CID_MAX &&
        wolfSSL_dtls_cid_get_tx(dtls->ssl, peer_cid, size) == WOLFSSL_SUCCESS)
        *length = size;
    return true;
}

const char *dtls_cipher(const struct dtls *dtls) { return wolfSSL_get_cipher_name(dtls->ssl); }
