"""Steady traffic between machines of the lab, as programs of their own: `send` and `receive`."""

from __future__ import annotations

import json
import select
import socket
import sys
import time

SO_RCVBUFFORCE = 33


def endpoint(address: str, port: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    return (socket.AF_INET6 if ":" in address else socket.AF_INET), (address, int(port))


def receive(pairs: list[str]) -> None:
    """Count datagrams on several addresses until standard input ends; print the distinct numbers per address."""
    handles = []
    for address, port in zip(pairs[::2], pairs[1::2], strict=True):
        family, own = endpoint(address, port)
        handle = socket.socket(family, socket.SOCK_DGRAM)
        handle.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        handle.bind(own)
        handles.append(handle)
    print("ready", flush=True)
    seen: dict[str, set[int]] = {address: set() for address in pairs[::2]}
    total = 0
    while True:
        readable = select.select([*handles, sys.stdin], [], [])[0]
        for handle, address in zip(handles, seen, strict=True):
            while handle in readable:
                try:
                    data = handle.recv(2048, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                seen[address].add(int.from_bytes(data[-8:], "big"))
                total += 1
        if sys.stdin in readable and len(readable) == 1:
            break
    print(json.dumps({"total": total, "seen": {address: len(found) for address, found in seen.items()}}))


def send(address: str, port: str, rate: str, prefix: str) -> None:
    """Send numbered datagrams at a rate (datagrams per second) until standard input ends; print how many.

    ``prefix`` is the payload before the 8-byte number, in hexadecimal.
    """
    family, to = endpoint(address, port)
    handle = socket.socket(family, socket.SOCK_DGRAM)
    handle.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE
    head, sent, start = bytes.fromhex(prefix), 0, time.monotonic()
    while True:
        due = int((time.monotonic() - start) * int(rate))
        while sent < due:
            handle.sendto(head + sent.to_bytes(8, "big"), to)
            sent += 1
        if select.select([sys.stdin], [], [], 0.002)[0]:
            break
    print(json.dumps({"sent": sent}))


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2:])
    else:
        send(*sys.argv[2:6])
