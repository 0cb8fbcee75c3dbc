/* SPDX-License-Identifier: Apache-2.0 */
/* dtls.h on Mbed TLS 3.6 */
#include "dtls.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cookie.h>
#include <psa/crypto.h>

struct dtls {
    mbedtls_ssl_context ssl;
    void *owner;
    const uint8_t *input;
    size_t input_length;
    int64_t intermediate, final; /* the library's timer; final < 0: not running */
    unsigned retransmissions;
    int error;
    char error_text[160];
};

const char dtls_library[] = "mbedtls";

static struct dtls_settings settings;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context generator;
static mbedtls_ssl_config config;
static mbedtls_ssl_cookie_ctx cookies;

static const char *error_text(int error, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "-0x%04x ", (unsigned)-error);
    mbedtls_strerror(error, text + used, size - used);
    return text;
}

static void check(const char *what, int result) {
    char text[160];
    if (result)
        die("%s: %s", what, error_text(result, text, sizeof text));
}

static int send_datagram(void *context, const unsigned char *bytes, size_t length) {
    struct dtls *dtls = context;
    settings.send(dtls->owner, bytes, length);
    return (int)length; /* what the network drops is lost, and that is the caller's to find out */
}

static int receive_datagram(void *context, unsigned char *out, size_t size) {
    struct dtls *dtls = context;
    if (!dtls->input_length)
        return MBEDTLS_ERR_SSL_WANT_READ;
    size_t length = dtls->input_length < size ? dtls->input_length : size;
    memcpy(out, dtls->input, length);
    dtls->input_length = 0;
    return (int)length;
}

static void set_delay(void *context, uint32_t intermediate_ms, uint32_t final_ms) {
    struct dtls *dtls = context;
    int64_t now = now_ms();
    dtls->intermediate = now + intermediate_ms;
    dtls->final = final_ms ? now + final_ms : -1;
}

static int get_delay(void *context) {
    struct dtls *dtls = context;
    int64_t now = now_ms();
    if (dtls->final < 0)
        return -1;
    return now >= dtls->final ? 2 : now >= dtls->intermediate ? 1 : 0;
}

void dtls_setup(const struct dtls_settings *wanted) {
    /* In the order of preference; the last is for peers whose library lacks the plain PSK suites. */
    static const int suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256,
                                 MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256, 0};
    settings = *wanted;
    if (psa_crypto_init() != PSA_SUCCESS)
        die("the cryptographic library does not start");
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&generator);
    check("random numbers", mbedtls_ctr_drbg_seed(&generator, mbedtls_entropy_func, &entropy, NULL, 0));
    mbedtls_ssl_config_init(&config);
    check("settings", mbedtls_ssl_config_defaults(
                          &config, settings.server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                          MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &generator);
    mbedtls_ssl_conf_min_tls_version(&config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(&config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_ciphersuites(&config, suites);
    mbedtls_ssl_conf_handshake_timeout(&config, settings.handshake_min_ms, settings.handshake_max_ms);
    check("pre-shared key", mbedtls_ssl_conf_psk(&config, settings.psk, settings.psk_length,
                                                 (const unsigned char *)PSK_IDENTITY, strlen(PSK_IDENTITY)));
    if (settings.cid)
        check("connection IDs",
              mbedtls_ssl_conf_cid(&config, settings.cid_length, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE));
    mbedtls_ssl_cookie_init(&cookies);
    if (settings.server && settings.cookie) {
        check("cookies", mbedtls_ssl_cookie_setup(&cookies, mbedtls_ctr_drbg_random, &generator));
        mbedtls_ssl_conf_dtls_cookies(&config, mbedtls_ssl_cookie_write, mbedtls_ssl_cookie_check, &cookies);
    } else if (settings.server) {
        mbedtls_ssl_conf_dtls_cookies(&config, NULL, NULL, NULL);
    }
}

void dtls_teardown(void) {
    mbedtls_ssl_cookie_free(&cookies);
    mbedtls_ssl_config_free(&config);
    mbedtls_ctr_drbg_free(&generator);
    mbedtls_entropy_free(&entropy);
    mbedtls_psa_crypto_free();
}

struct dtls *dtls_new(void *owner, const uint8_t *cid, const struct address *peer) {
    struct dtls *dtls = allocate(sizeof *dtls);
    dtls->owner = owner;
    dtls->final = -1;
    mbedtls_ssl_init(&dtls->ssl);
    check("new session", mbedtls_ssl_setup(&dtls->ssl, &config));
    mbedtls_ssl_set_bio(&dtls->ssl, dtls, send_datagram, receive_datagram, NULL);
    mbedtls_ssl_set_timer_cb(&dtls->ssl, dtls, set_delay, get_delay);
    if (settings.cid)
        check("connection ID",
              mbedtls_ssl_set_cid(&dtls->ssl, MBEDTLS_SSL_CID_ENABLED, cid, settings.cid_length));
    if (settings.server) {
        uint8_t key[20];
        check("cookie", mbedtls_ssl_set_client_transport_id(&dtls->ssl, key, address_key(peer, key)));
    }
    return dtls;
}

void dtls_free(struct dtls *dtls) {
    if (!dtls)
        return;
    mbedtls_ssl_free(&dtls->ssl);
    free(dtls);
}

void dtls_input(struct dtls *dtls, const uint8_t *bytes, size_t length) {
    dtls->input = bytes;
    dtls->input_length = length;
}

/* WANT_READ with input still unread happens when the library saw its timer first; then it is asked again. */
static bool again(const struct dtls *dtls, int result) {
    return (result == MBEDTLS_ERR_SSL_WANT_READ && dtls->input_length) ||
           result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

enum dtls_status dtls_handshake(struct dtls *dtls) {
    int result;
    do {
        bool expired = get_delay(dtls) == 2;
        result = mbedtls_ssl_handshake(&dtls->ssl);
        if (expired && result != MBEDTLS_ERR_SSL_TIMEOUT)
            dtls->retransmissions++;
    } while (again(dtls, result));
    dtls->input_length = 0;
    dtls->error = result;
    switch (result) {
    case 0:
        return DTLS_DONE;
    case MBEDTLS_ERR_SSL_WANT_READ:
        return DTLS_WANT;
    case MBEDTLS_ERR_SSL_HELLO_VERIFY_REQUIRED:
        return DTLS_VERIFY;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return DTLS_CLOSED;
    default:
        return DTLS_FAILED;
    }
}

int64_t dtls_deadline(const struct dtls *dtls) { return dtls->final; }

void dtls_postpone(struct dtls *dtls, uint32_t ms) {
    if (dtls->final < 0)
        return;
    dtls->intermediate += ms;
    dtls->final += ms;
}

unsigned dtls_retransmissions(const struct dtls *dtls) { return dtls->retransmissions; }

enum dtls_status dtls_read(struct dtls *dtls, uint8_t *out, size_t size, size_t *length) {
    int result;
    do
        result = mbedtls_ssl_read(&dtls->ssl, out, size);
    while (again(dtls, result));
    dtls->error = result;
    if (result > 0) {
        *length = (size_t)result;
        return DTLS_DONE;
    }
    if (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_TIMEOUT)
        return DTLS_WANT;
    return result == 0 || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ? DTLS_CLOSED : DTLS_FAILED;
}

bool dtls_write(struct dtls *dtls, const uint8_t *message, size_t length) {
    dtls->error = mbedtls_ssl_write(&dtls->ssl, message, length);
    return dtls->error == (int)length;
}

void dtls_goodbye(struct dtls *dtls) { mbedtls_ssl_close_notify(&dtls->ssl); }

const char *dtls_error(struct dtls *dtls) {
    return error_text(dtls->error, dtls->error_text, sizeof dtls->error_text);
}

bool dtls_cid_agreed(struct dtls *dtls, uint8_t peer_cid[CID_MAX], size_t *length) {
    int enabled = MBEDTLS_SSL_CID_DISABLED;
    *length = 0;
    if (mbedtls_ssl_get_peer_cid(&dtls->ssl, &enabled, peer_cid, length) ||
        enabled == MBEDTLS_SSL_CID_DISABLED)
        *length = 0;
    return enabled != MBEDTLS_SSL_CID_DISABLED;
}

const char *dtls_cipher(const struct dtls *dtls) { return mbedtls_ssl_get_ciphersuite(&dtls->ssl); }
