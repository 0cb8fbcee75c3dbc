"""OpenSSL's DTLS, which knows no connection IDs, goes through the gateway by flow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.crowd import COAPS, NODES, POOL, SERVED

from pointsman.lab.capture import Frame
from pointsman.lab.demo_peers import Peer, at
from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP
from pointsman.wire import dtls

pytestmark = [pytest.mark.peers, pytest.mark.netns]

COMMON = [
    "-dtls1_2",
    "-psk",
    "000102030405060708090a0b0c0d0e0f",
    "-psk_identity",
    "device",
    "-cipher",
    "PSK-AES128-GCM-SHA256",
]


@pytest.fixture(params=[4, 6], ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@contextmanager
def ended(peers: list[Peer]) -> Iterator[list[Peer]]:
    try:
        yield peers
    finally:
        for each in peers:
            with suppress(OSError):
                each.kill()


def s_client(site: Site, family: int, port: int, *more: str | Path) -> Peer:
    source = at(POOL[family].format(9, 9), port)
    argv = ["openssl", "s_client", "-connect", at(VIP[family], COAPS), "-bind", source, *COMMON, *more]
    return Peer(site.lab, "client", argv)


def s_server(site: Site, node: str, family: int) -> Peer:
    listen = at(site.lab.address(node, family), COAPS)
    argv = ["openssl", "s_server", "-accept", listen, "-nocert", "-client_renegotiation", *COMMON]
    server = Peer(site.lab, node, argv)
    server.wait(lambda: "ACCEPT" in server.said, "ACCEPT", 10)
    return server


def heard(peer: Peer, text: str, times: int = 1) -> str:
    """The line of the peer's that holds the text, for the ``times``-th time."""

    def lines() -> list[str]:
        return [line for line in peer.said if text in line]

    peer.wait(lambda: len(lines()) >= times, repr(text), 10)
    return lines()[times - 1]


def payload(frame: Frame) -> bytes:
    """The UDP payload."""
    return frame.packet[28:] if frame.ethertype == 0x0800 else frame.packet[48:]


def test_clients_without_cids_stay_on_a_node_by_their_flow(site: Site, family: int) -> None:
    site.apply(SERVED)
    site.serve(NODES, COAPS)
    with (
        site.lab.capture("client", "eth0") as capture,
        ended([s_client(site, family, 45000 + i, "-quiet") for i in range(8)]) as clients,
    ):
        first = {}
        for client in clients:
            client.say("hello")
            first[client] = heard(client, "echo=hello").partition(" peer=")[0]
        owners = {line.split()[0].removeprefix("node=") for line in first.values()}
        assert len(owners) > 1
        drained = owners.pop()
        site.order("drain", "s", drained)
        for client in clients:
            client.say("again")
            assert heard(client, "echo=again").partition(" peer=")[0] == first[client]
        for client in (late := [s_client(site, family, 45100 + i, "-quiet") for i in range(4)]):
            clients.append(client)
        for client in late:
            client.say("hello")
            assert f"node={drained} " not in heard(client, "echo=hello")
    assert all("cid=- " in heard(client, "echo=hello") for client in clients)
    hellos = [payload(frame)[:3] for frame in capture if frame.outgoing and payload(frame)[:1] == b"\x16"]
    assert hellos.count(b"\x16\xfe\xff") >= 2 * len(clients)  # both ClientHellos say DTLS 1.0
    assert (site.counted("s", "cid"), site.counted("s", "balanced")) == (0, len(clients))
    assert site.tracked() == []


def test_sessions_are_renegotiated_and_resumed_on_their_node(site: Site, family: int) -> None:
    """Resumption is by address: the node that knows the session is the one that the flow remembers."""
    site.apply(SERVED)
    session = site.lab.scratch / f"session-{family}"
    with (
        ended([s_server(site, node, family) for node in NODES]) as servers,
        site.lab.capture("client", "eth0") as capture,
    ):
        owner = None
        for turn, (option, kind) in enumerate((("-sess_out", "New"), ("-sess_in", "Reused")), 1):
            with ended([s_client(site, family, 45200, option, session)]) as (client,):
                heard(client, f"{kind}, TLSv1.2")
                client.say("before")
                owner = owner or _which(servers, "before")
                heard(owner, "before", turn)
                owner.say(f"answer {turn} before")
                heard(client, f"answer {turn} before")
                client.say("R")
                heard(client, "RENEGOTIATING")
                client.say("after")
                heard(owner, "after", turn)
                owner.say(f"answer {turn} after")
                heard(client, f"answer {turn} after")
                client.say("Q")
                client.wait_end(10)  # it says goodbye, which frees the server for the next one
    sent = [payload(frame) for frame in capture if frame.outgoing]
    # A renegotiation is a handshake under the first keys, and what follows is under the second ones.
    hellos = [
        each
        for each in sent
        if dtls.content_type(each) == dtls.ContentType.HANDSHAKE and dtls.epoch(each) == 1
    ]
    assert len(hellos) >= 2
    assert [dtls.epoch(each) for each in sent if dtls.content_type(each) == 23].count(2) == 2
    assert site.counted("s", "balanced") == 1
    assert site.tracked() == []


def _which(servers: list[Peer], text: str) -> Peer:
    """The one server that has heard the text."""
    deadline = time.monotonic() + 10
    while not (found := [server for server in servers if text in server.said]):
        assert time.monotonic() < deadline, f"no server has heard {text!r}"
        time.sleep(0.02)
    assert len(found) == 1
    return found[0]
