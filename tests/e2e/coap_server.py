"""A CoAP server of both families: /health is there, /separate is answered later, other paths are not found."""

from __future__ import annotations

import socket
import sys
import time

from pointsman.wire.coap import EMPTY, CoapError, Header, MessageType, parse_header

CONTENT, NOT_FOUND = 0x45, 0x84


def answers(data: bytes) -> list[bytes]:
    try:
        header = parse_header(data)
    except CoapError:
        return []
    if header.type is not MessageType.CONFIRMABLE:
        return []
    if header.code == EMPTY:
        return [Header(MessageType.RESET, EMPTY, header.id).encode()]
    options = data[4 + len(header.token) :]
    if options.startswith(b"\xb8separate"):
        separate = Header(MessageType.CONFIRMABLE, CONTENT, 4242, header.token).encode()
        return [Header(MessageType.ACKNOWLEDGEMENT, EMPTY, header.id).encode(), separate]
    code = CONTENT if options.startswith(b"\xb6health") else NOT_FOUND
    return [Header(MessageType.ACKNOWLEDGEMENT, code, header.id, header.token).encode() + b"\xffok"]


def main() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as handle:
        handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        handle.bind(("::", int(sys.argv[1])))
        while True:
            data, sender = handle.recvfrom(2048)
            for number, answer in enumerate(answers(data)):
                time.sleep(number * 0.05)
                handle.sendto(answer, sender)


main()
