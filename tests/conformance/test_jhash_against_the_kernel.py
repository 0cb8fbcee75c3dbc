"""Our jhash and the kernel's give every client the same slot.

Packets of random clients cross the loopback of a namespace of their own, where nft rules write into each
what the kernel made of its source: the whole 32-bit hash into the payload, and the slot, by a map as the
data plane has one, into the destination port.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import NamedTuple

import pytest

from pointsman.plan.jhash import client_key, client_slot, jhash, reciprocal_scale

CLIENTS = 10_000
AT_ONCE = 100  # packets sent before they are read: well below what a socket's receive buffer holds
DISCARD = 9
FIRST_PORT = 20_000
WHOLE = 0xFFFFFFFF  # the largest modulus there is: it leaves hash - 1, or 0
CLONE_NEWNET = 0x40000000

Client = tuple[IPv4Address | IPv6Address, int]

pytestmark = pytest.mark.netns


class Seen(NamedTuple):
    """What the kernel made of one client."""

    whole: int
    slot: int


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a network namespace")
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    name = f"pm-jhash-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"cannot make a network namespace: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def raw_socket(namespace: str, family: int, protocol: int) -> socket.socket:
    """A socket stays in the namespace of the thread that opened it, so a thread goes there for it."""
    opened: list[socket.socket | OSError] = []

    def open_there() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as entrance:  # noqa: PTH123
            if libc.setns(entrance.fileno(), CLONE_NEWNET) != 0:
                opened.append(OSError(ctypes.get_errno(), "setns"))
                return
        try:
            opened.append(socket.socket(family, socket.SOCK_RAW, protocol))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join()
    if isinstance(opened[0], OSError):
        raise opened[0]
    return opened[0]


def load_rules(namespace: str, address: str, size: int, seed: int) -> None:
    ports = ", ".join(f"{slot} : {FIRST_PORT + slot}" for slot in range(size))
    key = f"jhash {address} saddr . udp sport"
    ruleset = f"""
        flush ruleset
        table {address} proof {{
            chain arrival {{
                type filter hook prerouting priority raw; policy accept;
                udp dport {DISCARD} @th,96,32 set {key} mod {WHOLE} seed {seed:#x}
                udp dport {DISCARD} udp dport set {key} mod {size} seed {seed:#x} map {{ {ports} }}
            }}
        }}
    """
    subprocess.run(
        ["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=ruleset, text=True, check=True, timeout=30
    )


def segment(port: int, index: int) -> bytes:
    """A UDP header without checksum and 8 bytes: which client it was, and room for the hash."""
    return struct.pack("!HHHHII", port, DISCARD, 16, 0, index, 0)


def ipv4_packet(client: IPv4Address, port: int, index: int) -> bytes:
    header = struct.pack(
        "!BBHHHBBH", 0x45, 0, 36, 0, 0, 64, socket.IPPROTO_UDP, 0
    )  # the kernel adds its checksum
    return header + client.packed + IPv4Address("127.0.0.1").packed + segment(port, index)


def ipv6_packet(client: IPv6Address, port: int, index: int) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, 16, socket.IPPROTO_UDP, 64)
    return header + client.packed + IPv6Address("::1").packed + segment(port, index)


def ask_the_kernel(
    namespace: str, family: int, destination: str, packets: list[bytes], header_size: int
) -> dict[int, Seen]:
    """Send every packet and read it again after the rules, by the index that it carries."""
    seen: dict[int, Seen] = {}
    with (
        raw_socket(namespace, family, socket.IPPROTO_RAW) as sender,
        raw_socket(namespace, family, socket.IPPROTO_UDP) as receiver,
    ):
        receiver.settimeout(2)
        for start in range(0, len(packets), AT_ONCE):
            batch = packets[start : start + AT_ONCE]
            for packet in batch:
                sender.sendto(packet, (destination, 0))
            for _ in batch:
                arrived = receiver.recv(128)
                port, index, whole = struct.unpack_from("!2xH4xII", arrived, header_size)
                seen[index] = Seen(whole, port - FIRST_PORT)
    return seen


@pytest.mark.parametrize("seed", [0, 0x5EED1234, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [251, 1009])
def test_ipv4_clients_get_the_slot_that_we_compute(namespace: str, size: int, seed: int) -> None:
    rng = Random(seed + size)
    clients = [
        (IPv4Address(rng.randrange(1 << 24, 224 << 24)), rng.randrange(1, 1 << 16)) for _ in range(CLIENTS)
    ]
    load_rules(namespace, "ip", size, seed)
    packets = [ipv4_packet(address, port, index) for index, (address, port) in enumerate(clients)]

    seen = ask_the_kernel(namespace, socket.AF_INET, "127.0.0.1", packets, header_size=20)

    assert_predicted(seen, clients, size, seed)


@pytest.mark.parametrize("seed", [0, 0x5EED1234, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [251, 1009])
def test_ipv6_clients_get_the_slot_that_we_compute(namespace: str, size: int, seed: int) -> None:
    rng = Random(seed + size)
    clients = [
        # Everything below the multicast addresses ff00::/8.
        (IPv6Address(rng.randrange(1 << 32, 0xFF << 120)), rng.randrange(1, 1 << 16))
        for _ in range(CLIENTS)
    ]
    load_rules(namespace, "ip6", size, seed)
    packets = [ipv6_packet(address, port, index) for index, (address, port) in enumerate(clients)]

    seen = ask_the_kernel(namespace, socket.AF_INET6, "::1", packets, header_size=0)

    assert_predicted(seen, clients, size, seed)


def assert_predicted(seen: dict[int, Seen], clients: Sequence[Client], size: int, seed: int) -> None:
    predicted = {
        index: Seen(
            reciprocal_scale(jhash(client_key(address, port), seed), WHOLE),
            client_slot(address, port, size, seed),
        )
        for index, (address, port) in enumerate(clients)
    }
    assert seen.keys() == predicted.keys()
    differ = [
        (*clients[index], seen[index], predicted[index]) for index in seen if seen[index] != predicted[index]
    ]
    assert not differ, f"{len(differ)} of {len(clients)} differ, the first: {differ[0]}"
