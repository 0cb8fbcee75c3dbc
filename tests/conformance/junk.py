"""Datagrams that are no DTLS, or none that a client would send, with the reason that a filter has against each."""

from __future__ import annotations

import random
import struct

from pointsman.wire import dtls

DNS_QUERY = bytes.fromhex("1234010000010000000000000765") + b"xample\3com\0\0\1\0\1"
DNS_ANSWER = bytes.fromhex("beef81800001001000000000") + b"\7example\3com\0\0\xff\0\1" + bytes(400)
NTP_REQUEST = b"\x23" + bytes(47)
NTP_ANSWER = b"\x24\2\6\xec" + bytes(44)
NTP_MONLIST = b"\xd7\0\3\x2a\0\6\0\x48" + bytes(432)
COAP_REQUEST = bytes.fromhex("4401123401020304b66465766963651173")
COAP_ANSWER = bytes.fromhex("6445123401020304ff") + b"21.5"
SSDP_ANSWER = b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: upnp:rootdevice\r\n\r\n"
SSDP_SEARCH = b'M-SEARCH * HTTP/1.1\r\nMAN: "ssdp:discover"\r\n\r\n'
MEMCACHED = bytes.fromhex("0000000000010000") + b"stats\r\n"
MEMCACHED_ANSWER = bytes.fromhex("0000000000010000") + b"VALUE x 0 1000\r\n" + b"x" * 1000
SNMP = bytes.fromhex("302602010104067075626c6963a519020400000000020100020100300b30090605")
STUN = bytes.fromhex("000100002112a442") + bytes(12)
QUIC = b"\xc3\0\0\0\1" + bytes(1195)

HELLO = dtls.client_hello(b"\x11" * 32)
OLD_HELLO = dtls.client_hello(b"\x11" * 32, version=dtls.DTLS_1_0)

FOREIGN = {
    "DNS query": DNS_QUERY,
    "DNS answer": DNS_ANSWER,
    "NTP request": NTP_REQUEST,
    "NTP answer": NTP_ANSWER,
    "NTP monlist": NTP_MONLIST,
    "CoAP request": COAP_REQUEST,
    "CoAP answer": COAP_ANSWER,
    "SSDP answer": SSDP_ANSWER,
    "SSDP search": SSDP_SEARCH,
    "memcached": MEMCACHED,
    "memcached answer": MEMCACHED_ANSWER,
    "SNMP": SNMP,
    "STUN": STUN,
    "QUIC": QUIC,
    "empty": b"",
    "one byte": b"\x16",
    "TLS 1.2 over UDP": bytes.fromhex("160303002a01") + bytes(41),
    "DTLS 1.0 data": dtls.record(23, bytes(32), epoch=1, version=dtls.DTLS_1_0),
    "DTLS 1.0 Finished": dtls.handshake_record(20, bytes(12), version=dtls.DTLS_1_0),
    "DTLS 1.0 handshake of epoch 1": OLD_HELLO[:4] + b"\1" + OLD_HELLO[5:],
    "content type 19": b"\x13" + dtls.application_data()[1:],
    "content type 26": b"\x1a" + dtls.application_data()[1:],
}
"""Nothing of this has DTLS's content type and version."""

TOO_LONG = {
    "header alone": HELLO[:13],
    "cut header": HELLO[:12],
    "three bytes": b"\x17\xfe\xfd",
    "half a ClientHello": HELLO[: len(HELLO) // 2],
    "a length of 65535": HELLO[:11] + b"\xff\xff" + HELLO[13:],
    "more than a record may have": HELLO[:11] + struct.pack(">H", (1 << 14) + 2049) + HELLO[13:],
    "an empty record": dtls.application_data(body=b""),
    "a CID record cut in its CID": dtls.cid_record(b"\1\xa1\xb2\xc3\xd4\xe5")[:13],
}
"""Records that are longer than what carries them, or empty."""

WRONG_EPOCH = {
    "a CID record of epoch 0": dtls.cid_record(b"\1\xa1\xb2\xc3\xd4\xe5", epoch=0),
    "a ClientHello of epoch 1": HELLO[:4] + b"\1" + HELLO[5:],
}

REASONS = {"not_dtls": FOREIGN, "bad_length": TOO_LONG, "bad_epoch": WRONG_EPOCH}


def noise(seed: int, count: int) -> list[bytes]:
    """Random datagrams of random sizes; none starts as DTLS does, which one in 700,000 would."""
    source = random.Random(seed)
    return [source.randbytes(source.randrange(1, 600)) for _ in range(count)]
