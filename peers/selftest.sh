#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tries built peers on the loopback, without any balancer: peers/selftest.sh [DIRECTORY [SERVER [CLIENT]]]
# SERVER and CLIENT are programs in DIRECTORY (cidpeer), so that two libraries can be tried with each other.
# It takes about ten seconds, needs no root, and ends only the processes that it started.
set -u

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../build/peers}
server_program=$dir/${2:-cidpeer}
client_program=$dir/${3:-${2:-cidpeer}}
for program in "$server_program" "$client_program"; do
    [ -x "$program" ] || { echo "selftest.sh: $program is not built (peers/build*.sh)" >&2; exit 2; }
done
no_cookie=--no-cookie
cipher=PSK-AES128-GCM-SHA256
if [ "${server_program##*/}" = wolfpeer ]; then # it has not all of them
    no_cookie=
    cipher=ECDHE-PSK-CHACHA20-POLY1305
fi
work=$(mktemp -d)
server=
failures=0

cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# start ADDR OPTION...: a server on a free port of ADDR; sets $server and $at
start() {
    local address=$1 try
    shift
    : >"$work/server" # not to take the last server's address for this one's
    "$server_program" server --listen "$address:0" "$@" >"$work/server" 2>"$work/server.err" &
    server=$!
    for try in {1..100}; do
        at=$(sed -n 's/.*"event":"ready".*"listen":"\([^"]*\)".*/\1/p' "$work/server")
        [ -z "$at" ] || return 0
        sleep 0.05
    done
    echo "FAIL  the server does not start: $(cat "$work/server.err")"
    exit 1
}

# finish: ends the server, which must exit with 0 and a summary
finish() {
    local status
    kill "$server"
    wait "$server"
    status=$?
    server=
    expect "the server ends with 0 and a summary" test "$status.$(grep -c '"event":"summary"' "$work/server")" = 0.1
    [ ! -s "$work/server.err" ] || sed 's/^/      /' "$work/server.err"
}

# client OPTION...: its exit status is kept in $status
client() {
    timeout 10 "$client_program" client --connect "$at" --report-ms 0 "$@" >"$work/client" 2>"$work/client.err" </dev/null
    status=$?
    [ ! -s "$work/client.err" ] || sed 's/^/      /' "$work/client.err"
}

# count FILE EVENT KEY: the number (or true, false) in the last such event
count() { sed -n 's/.*"event":"'"$2"'".*"'"$3"'":\([a-z0-9]*\).*/\1/p' "$work/$1" | tail -n 1; }

expect() {
    local what=$1
    shift
    if "$@"; then
        echo "ok    $what"
    else
        echo "FAIL  $what  ($*)"
        [ ! -s "$work/client" ] || tail -n 2 "$work/client" | cut -c 1-400 | sed 's/^/      /'
        failures=$((failures + 1))
    fi
}

# ids OFFSET BITS: the different numbers in that place of the CIDs that the clients saw
ids() {
    local cid
    sed -n 's/.*"event":"session".*"cid":"\([0-9a-f]*\)".*/\1/p' "$work/client" | while read -r cid; do
        echo $(((0x$cid >> (4 * ${#cid} - $1 - $2)) & ((1 << $2) - 1)))
    done | sort -u | tr '\n' ' '
}

start 127.0.0.1 --name n1 --cid-prefix 07
client --sessions 200 --requests 6 --rebind-every 2 --gap-ms 5 --source 127.0.0.2 --source 127.0.0.3
expect "200 sessions that rebind keep node and session" test $status = 0
expect "  every request was answered" test "$(count client summary answered)" = 1200
expect "  the server saw every move" test "$(count client summary rebinds)" = 400
expect "  the CIDs begin with the prefix" test "$(ids 0 8)" = "7 "
client --sessions 5 --requests 4 --rebind-every 2 --gap-ms 5 --cid c0ffee --payload-bytes 1000
expect "a client that wants a CID itself" test $status = 0
client --sessions 5 --requests 4 --rebind-every 2 --gap-ms 5 --cid none --timeout-ms 300
expect "control: without a CID, rebinding fails" test $status = 1
expect "  by lost answers" test "$(count client summary lost)" = 10
client --sessions 5 --requests 4 --gap-ms 5 --cid none
expect "without a CID and without rebinding" test $status = 0
client --sessions 2 --requests 1 --psk ff --handshake-timeout-ms 100:200
expect "control: another key fails" test $status = 1
finish
expect "  the server counted the moves" test "$(count server summary moved)" = 405
expect "  and dropped what it did not know" test "$(count server summary unknown_peer)" -gt 0

start '[::1]' --cid-id 21 --cid-offset-bits 3 --cid-bits 5 --cid-length 7 $no_cookie
client --sessions 20 --requests 4 --rebind-every 2 --gap-ms 5 --source ::1
expect "IPv6${no_cookie:+, without cookies}" test $status = 0
expect "  the id is in bits 3 to 8" test "$(ids 3 5)" = "21 "
expect "  and the bits around it are not constant" test "$(ids 0 3 | wc -w)" -gt 1 -a "$(ids 8 5 | wc -w)" -gt 1
finish

start 127.0.0.1 --cid-id 2741 --cid-offset-bits 6 --cid-bits 12 --initiate-ms 50 --max-sessions 30
client --sessions 30 --gap-ms 20 --duration 1 --handshake-pause-ms 100
expect "handshakes with pauses, a run of one second" test $status = 0
expect "  an id across three bytes" test "$(ids 6 12)" = "2741 "
expect "  the server spoke of its own accord" test "$(count client summary unsolicited)" -gt 30
kill -STOP "$server"
(sleep 0.7 && kill -CONT "$server" && sleep 0.5 && kill -STOP "$server" && sleep 0.4 && kill -CONT "$server") &
client --sessions 10 --requests 60 --gap-ms 10 --timeout-ms 150 --retries 10 --handshake-timeout-ms 200:1600
wait $!
expect "a server that is away for a while is tried again" test $status = 0
expect "  in the handshake" test "$(count client summary handshake_retransmissions)" -gt 0
expect "  and later, and late answers are told apart" test "$(count client summary retries)" -gt 0 -a \
    "$(count client summary late)" -gt 0
{ sleep 0.3; echo rebind; sleep 0.3; echo stop; } |
    timeout 10 "$client_program" client --connect "$at" --sessions 40 --gap-ms 50 --report-ms 100 --quiet >"$work/client"
expect "control: 40 sessions at a server that keeps 30 fail" test "$(count client summary ok)" = false
expect "  commands on stdin: rebind and stop" test "$(count client summary rebinds)" -gt 0
finish
expect "  the server evicted some" test "$(count server summary evicted)" -gt 0

if command -v openssl >/dev/null; then
    start 127.0.0.1 --name n1
    { sleep 0.5; echo hello; sleep 0.5; } |
        timeout 5 openssl s_client -dtls1_2 -connect "$at" -psk 000102030405060708090a0b0c0d0e0f \
            -psk_identity device -cipher $cipher -quiet >"$work/openssl" 2>&1
    expect "openssl s_client, which knows no CIDs" grep -q '^node=n1 handshake=1 cid=- .*echo=hello' "$work/openssl"
    finish
else
    echo "skip  no openssl command"
fi

[ $failures = 0 ] || { echo "$failures failed"; exit 1; }
echo "all passed"
