"""What the end-to-end cases say of many sessions at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pointsman.lab.demo_peers import Client, end_all, total
from pointsman.lab.demo_site import FAMILIES, Served, Site

NODES = ("n1", "n2", "n3")
COAPS = 5684
SERVED = Served("s", COAPS, NODES)
BY_ADDRESS = Served("s", COAPS, NODES, by_cid=False)
STRICT = ("--timeout-ms", "5000", "--retries", "0")
"""No second try: an answer that is lost stays lost."""

POOL = {4: "198.19.{}.{}", 6: "2001:db8:19::{:x}:{:x}"}


def sources(family: int, count: int = 40) -> list[str]:
    """Options by which a client without a NAT takes another address at every rebind."""
    return [
        word for i in range(1, count + 1) for word in ("--source", POOL[family].format(i, 7 * i % 250 + 1))
    ]


def behind_nats(site: Site, each: int, *more: str, port: int = COAPS) -> list[Client]:
    return [
        site.client(f"dev{number}", family, port, each, *more) for number in (1, 2) for family in FAMILIES
    ]


def wandering(site: Site, each: int, *more: str, every: int = 1, port: int = COAPS) -> list[Client]:
    """Clients of both families that take a new address and port after every few requests."""
    return [
        site.client("client", family, port, each, "--rebind-every", str(every), *sources(family), *more)
        for family in FAMILIES
    ]


def established(clients: Sequence[Client]) -> None:
    for client in clients:
        client.established()


def await_answers(client: Client, count: int) -> None:
    """Wait until the client has had so many answers in all."""
    client.wait(lambda: client.last("progress").get("answered", 0) >= count, f"{count} answers", 10)


def remap(site: Site, turn: int) -> None:
    """Give everything behind both NATs another address and other ports."""
    first = 10_000 + 1_000 * (turn % 40)
    for number in (1, 2):
        nat = site.lab.nat(number)
        for family in FAMILIES:
            addresses = nat.external(family)
            nat.remap(addresses[turn % len(addresses)], (first, first + 999))


@contextmanager
def nothing_under_way(clients: Sequence[Client]) -> Iterator[None]:
    """Hold the clients, so that no answer is on its way to a mapping that is about to vanish."""
    for client in clients:
        client.freeze()
    time.sleep(0.05)
    try:
        yield
    finally:
        for client in clients:
            client.thaw()


def unharmed(clients: Sequence[Client]) -> Counter[str]:
    """End the clients; every session lives, and every request was answered by its node and its handshake."""
    ends = total(end_all(clients))
    assert {client.machine: client.broken for client in clients if client.broken} == {}
    assert ends["handshakes_ok"] == ends["sessions"]
    assert ends["answered"] == ends["requests"] > 0
    assert ends["lost"] == ends["wrong"] == ends["closed"] == ends["handshakes_failed"] == 0
    return ends


def finished(clients: Sequence[Client], timeout: float = 60.0) -> Counter[str]:
    """Wait for clients that make a fixed number of requests; they say themselves whether all is well."""
    ends = [client.finish(timeout) for client in clients]
    assert [end["ok"] for end in ends] == [True] * len(ends), [client.broken for client in clients]
    return total(ends)


def per_node(site: Site, key: str, port: int | None = None) -> dict[str, int]:
    """A counter of the servers by node, both families together."""
    sums: Counter[str] = Counter()
    for server in site.servers_of(port=port):
        sums[server.node] += server.stats()[key]
    return dict(sums)
