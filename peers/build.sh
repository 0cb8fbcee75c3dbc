#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds cidpeer, the DTLS connection-ID test peer: peers/build.sh [--sanitize] [DIRECTORY]
#
# It needs Mbed TLS 3.6 with RFC 9146 connection IDs. A system package of that version is used when installed;
# otherwise the one of Debian 13 is unpacked below DIRECTORY (nothing is installed, root is not needed) and linked
# statically. Nothing is done when the program is newer than its sources.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/build-lib.sh"
parse_arguments "$@"
enter_build_directory "$dir"

sources="cidpeer.c server.c client.c dtls_mbedtls.c loop.c util.c"
up_to_date "$dir/cidpeer" && exit 0

has_mbedtls() { # does Mbed TLS 3.6 (not 4) with RFC 9146 compile, with these flags?
    printf '%s\n' '#include <mbedtls/ssl.h>' \
        '#if MBEDTLS_VERSION_NUMBER < 0x03060000 || MBEDTLS_VERSION_NUMBER >= 0x04000000' '#error version' '#endif' \
        '#if !defined(MBEDTLS_SSL_DTLS_CONNECTION_ID) || MBEDTLS_SSL_DTLS_CONNECTION_ID_COMPAT' '#error cid' '#endif' |
        ${CC:-cc} -fsyntax-only -x c "$@" - 2>/dev/null
}

include=
if has_mbedtls; then
    libraries="-lmbedtls -lmbedx509 -lmbedcrypto"
else
    unpack_debian trixie libmbedtls-dev
    lib=$(dirname "$(find "$unpacked/usr/lib" -name libmbedtls.a | head -n 1)")
    include=-I$unpacked/usr/include
    has_mbedtls "$include" || fail "the unpacked Mbed TLS is not the 3.6 with connection IDs that is needed"
    libraries="$lib/libmbedtls.a $lib/libmbedx509.a $lib/libmbedcrypto.a"
fi
compile cidpeer
