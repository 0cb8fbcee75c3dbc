#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds wolfpeer, the same peer as cidpeer on another DTLS library: peers/build-wolfssl.sh [--sanitize] [DIRECTORY]
#
# It needs wolfSSL 5.9 with connection IDs. A system package of that version is used when installed; otherwise the
# one of Debian's unstable release is unpacked below DIRECTORY and linked statically, as build.sh does.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/build-lib.sh"
parse_arguments "$@"
enter_build_directory "$dir"

sources="cidpeer.c server.c client.c dtls_wolfssl.c loop.c util.c"
up_to_date "$dir/wolfpeer" && exit 0

has_wolfssl() { # does wolfSSL 5.9 or later with connection IDs compile, with these flags?
    printf '%s\n' '#include <wolfssl/options.h>' '#include <wolfssl/ssl.h>' \
        '#if LIBWOLFSSL_VERSION_HEX < 0x05009000 || !defined(WOLFSSL_DTLS_CID)' '#error unsuitable' '#endif' |
        ${CC:-cc} -fsyntax-only -x c "$@" - 2>/dev/null
}

include=
libraries=-lwolfssl
if ! has_wolfssl; then
    unpack_debian sid libwolfssl-dev
    include=-I$unpacked/usr/include
    libraries="$(find "$unpacked/usr/lib" -name libwolfssl.a | head -n 1) -lm -lpthread"
    has_wolfssl "$include" || fail "the unpacked wolfSSL is not the 5.9 with connection IDs that is needed"
fi
compile wolfpeer
