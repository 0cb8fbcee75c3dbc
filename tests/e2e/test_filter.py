"""Real sessions go on through a filter, and through a guard, while others send junk that reaches nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from tests.conformance.abilities import FILTER, GUARD, require
from tests.conformance.junk import REASONS, noise
from tests.e2e.crowd import COAPS, NODES, POOL, SERVED, STRICT, finished
from tests.e2e.test_openssl import COMMON, ended, heard

from pointsman.lab.capture import Capture
from pointsman.lab.demo_peers import Client, Peer, Server, at
from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP

pytestmark = [pytest.mark.peers, pytest.mark.netns]

FLOODER = 77
"""The part of the client's pool that junk comes from."""
FILTER_TEXT = (
    '[service.filter]\nlevel = "record"\ndrop_source_ports = ["reflectors"]\nhello = { per_prefix = 1000 }'
)


@pytest.fixture(params=[4, 6], ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@contextmanager
def flood(site: Site, family: int, address: str, port: int) -> Iterator[list[int]]:
    """Send junk from eight addresses, some of it from reflectors' ports; the list's sum is how many."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    handles = []
    for host in range(1, 9):
        handle = site.lab.socket("client", kind, socket.SOCK_DGRAM)
        handle.bind((POOL[family].format(FLOODER, host), 53 if host % 2 else 0))
        handles.append(handle)
    payloads = [payload for junk in REASONS.values() for payload in junk.values()] + noise(1, 100)
    over, sent = threading.Event(), [0]

    def send() -> None:
        while not over.wait(0.002):
            handles[sent[0] % 8].sendto(payloads[sent[0] % len(payloads)], (address, port))
            sent[0] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()
        for handle in handles:
            handle.close()


def from_the_flood(captures: Sequence[Capture], family: int) -> int:
    """Frames that the captures have of what the flooder sent."""
    first = ip_address(POOL[family].format(FLOODER, 1)).packed
    source = slice(12, 15) if family == 4 else slice(8, 23)
    return sum(
        1
        for capture in captures
        for frame in capture
        if frame.packet[source] == first[:-1] and not frame.outgoing
    )


def s_client(site: Site, family: int, listener: str, port: int) -> Peer:
    source = at(POOL[family].format(9, 9), port)
    argv = ["openssl", "s_client", "-connect", listener, "-bind", source, "-quiet", *COMMON]
    return Peer(site.lab, "client", argv)


def talk(client: Peer, words: Sequence[str]) -> None:
    for word in words:
        client.say(word)
        heard(client, f"echo={word}")


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "control"])
def test_sessions_through_a_filter_under_junk(site: Site, family: int, filtered: bool) -> None:
    if family == 6 and not filtered:
        pytest.skip("the control for IPv4 says it")
    if filtered:
        require(site.plane, FILTER)
    site.apply(replace(SERVED, settings=FILTER_TEXT) if filtered else SERVED)
    site.serve(NODES, COAPS)
    with ExitStack() as stack:
        captures = [stack.enter_context(site.lab.capture(node, "eth0")) for node in NODES]
        sent = stack.enter_context(flood(site, family, VIP[family], COAPS))
        if filtered:
            options = ("--rebind-every", "3", "--requests", "12", "--gap-ms", "40", *STRICT)
            pool = [word for host in range(1, 6) for word in ("--source", POOL[family].format(5, host))]
            clients = [site.client("client", family, COAPS, 20, *options, *pool)]
            with ended([s_client(site, family, at(VIP[family], COAPS), 45300)]) as (plain,):
                talk(plain, ("one", "two", "three"))
            assert finished(clients)["answered"] == 20 * 12
        else:
            time.sleep(1)
    reached = from_the_flood(captures, family)
    dropped = sum(site.counted("s", verdict) for verdict in (*REASONS, "source_port"))
    assert sent[0] > 100
    assert (reached, dropped) == (0, sent[0]) if filtered else (reached > sent[0] // 2 and dropped == 0)


@pytest.mark.parametrize("guarded", [True, False], ids=["guard", "control"])
def test_sessions_with_a_guarded_server_under_junk(site: Site, family: int, guarded: bool) -> None:
    """The server runs on the gateway's own machine, and nothing is balanced."""
    if family == 6 and not guarded:
        pytest.skip("the control for IPv4 says it")
    own = site.lab.address("gw", family)
    settings = '[guard.filter]\nlevel = "record"\ndrop_source_ports = ["reflectors"]'
    if guarded:
        require(site.plane, GUARD)
        head = f'[gateway]\nname = "edge"\ndataplane = "{site.plane}"\nhash_seed = 1\n'
        file = site.lab.scratch / "guard.toml"
        guard = f'[[guard]]\nname = "own"\ninterface = "wan0"\nports = [{COAPS}]\n'
        file.write_text(head + guard + settings)
        site.pointsman("apply", str(file))
    server = Server(site.lab, site.peer, "gw", family, COAPS, 7)
    with ExitStack() as stack:
        stack.callback(server.kill)
        sent = stack.enter_context(flood(site, family, own, COAPS))
        if guarded:
            options = ("--requests", "8", "--gap-ms", "40", "--rebind-every", "3", *STRICT)
            client = Client(site.lab, site.peer, "client", at(own, COAPS), 10, *options)
            stack.callback(client.kill)
            with ended([s_client(site, family, at(own, COAPS), 45400)]) as (plain,):
                talk(plain, ("one", "two"))
            assert finished([client])["answered"] == 80
        else:
            time.sleep(1)
        time.sleep(0.1)
        stats = server.stats()
    heard_junk = stats["unknown_peer"] + stats["unknown_cid"] + stats["malformed"]
    if guarded:
        (found,) = site.status()["guards"]
        assert sum(count["packets"] for count in found["counters"].values()) == sent[0] > 100
        assert heard_junk == 0
    else:
        assert heard_junk > 0
