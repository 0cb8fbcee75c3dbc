"""How long a node is still sent packets after it was ordered away, or has failed. Each case prints its times."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conformance import site as gateways
from tests.conformance.serving import serving
from tests.conformance.site import COAPS, cid, hello
from tests.e2e.doors import PORT, doors
from tests.e2e.mixed import NODES, text
from tests.e2e.test_faults import INTERVAL, becomes, check

from pointsman.lab.capture import Frame
from pointsman.lab.demo_site import Site

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

EVERY = (*NODES, "n3")
FALL = 3
SILENT = f"""\
table inet silent {{
  chain input {{
    type filter hook input priority 0; policy accept;
    tcp dport {PORT} drop
  }}
}}
"""


@pytest.fixture
def gateway(site: Site) -> Iterator[gateways.Site]:
    found = gateways.Site(site.lab, site.plane, 4)
    yield found
    found.close()


def of_service(frame: Frame) -> bool:
    return frame.ethertype == 0x0800 and frame.packet[9] == 17 and frame.packet[22:24] == COAPS.to_bytes(2)


@contextmanager
def sending(clients: list[socket.socket], payload: bytes, to: str) -> Iterator[None]:
    """About a thousand datagrams a second."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.01):
            for client in clients[:10]:
                client.sendto(payload, (to, COAPS))
            clients.append(clients.pop(0))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_disabled_node_gets_nothing_once_the_order_is_acknowledged(
    site: Site, gateway: gateways.Site
) -> None:
    gateway.nodes(EVERY)
    with (
        serving(gateway, text(site, records=EVERY), afresh=True),
        site.lab.capture("n3", "eth0", outgoing=False) as seen,
        sending([gateway.client()], cid(3), gateway.vip),
    ):
        seen.wait(50, timeout=20, want=of_service)
        began = time.time()
        gateway.pointsman("node", "disable", "records/n3")
        acknowledged = time.time()
        time.sleep(1.5)
    last = max(frame.time for frame in seen if of_service(frame))
    print(
        f"\n{site.plane}: from `node disable` to the last packet at the node {(last - began) * 1000:.0f} ms; "
        f"the command took {(acknowledged - began) * 1000:.0f} ms"
    )
    assert began - 1 < last < acknowledged + 0.5


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "control"])
def test_a_silent_server_gets_no_new_handshakes_once_checks_have_failed(
    site: Site, gateway: gateways.Site, *, checked: bool
) -> None:
    gateway.nodes(EVERY)
    content = text(site, records=EVERY, more=check(fall=FALL) if checked else "")
    with (
        doors(site.lab, EVERY),
        serving(gateway, content, afresh=True) as daemon,
        site.lab.capture("n3", "eth0", outgoing=False) as seen,
        sending([gateway.client() for _ in range(60)], hello(), gateway.vip),
    ):
        becomes(daemon, "n3", "up")
        seen.wait(50, timeout=20, want=of_service)
        failed = time.time()
        site.lab.run("n3", ["nft", "-f", "-"], text=SILENT)
        try:
            if checked:
                becomes(daemon, "n3", "down")
            down = time.time()
            time.sleep(2.0)
            end = time.time()
        finally:
            site.lab.run("n3", ["nft", "delete", "table", "inet", "silent"])
    frames = [frame.time for frame in seen if of_service(frame) and frame.time < end]
    if not checked:
        assert max(frames) > end - 0.5  # they would be lost without end
        return
    print(
        f"\n{site.plane}: from a server's silence to the last new handshake at it "
        f"{(max(frames) - failed) * 1000:.0f} ms; fall x interval + timeout is "
        f"{(FALL * INTERVAL + INTERVAL) * 1000:.0f} ms, and the change of the tables comes behind it"
    )
    assert failed < max(frames) < down + 0.5
